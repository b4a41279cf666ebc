"""Stacks as a sampler wrote them: which process, thread and frames."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfa_perf.profile.laps import DATALOADER_WORKERS

MAIN = "main"


class Frame(NamedTuple):
    """One frame as sampled."""

    function: str
    file: str
    line: int


class Sample(NamedTuple):
    """One stack as sampled, root first, and the seconds it stands for."""

    thread: str
    frames: tuple[Frame, ...]
    weight: float


def read_samples(path: str | Path, main_id: int | None = None) -> list[Sample]:
    """Read a speedscope file of sampled profiles, as py-spy writes it, in time order per thread.

    Of several processes those are read that `main_id` started, and it itself. The thread whose id
    is `main_id` gets the name ``main``, or where none has it the one named
    MainThread. On Linux py-spy's id of the main thread is the process id, and its name is missing
    when the one read of it went wrong.

    Raises
    ------
    ValueError : the file is not a speedscope file of sampled profiles.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        frames = [
            Frame(f["name"], f.get("file") or "", int(f.get("line") or 0))
            for f in data["shared"]["frames"]
        ]
        samples: list[Sample] = []
        profiles = [(_thread(profile["name"]), profile) for profile in data["profiles"]]
        by_id = main_id is not None and main_id in {thread.id for thread, _ in profiles}
        for thread, profile in profiles:
            chain = _processes(frames, profile["samples"])
            if main_id is not None and chain and main_id not in chain:
                continue
            is_main = thread.id == main_id if by_id else thread.name == "MainThread"
            name = MAIN if is_main else thread.name or f"thread {thread.id}"
            if thread.process is not None and thread.process != main_id:
                name = _child(thread, frames, profile["samples"])
            cache: dict[tuple[int, ...], tuple[Frame, ...]] = {}
            for indexes, weight in zip(profile["samples"], profile["weights"], strict=True):
                key = tuple(indexes)
                stack = cache.get(key)
                if stack is None:
                    stack = tuple(frames[i] for i in key if _is_whole(frames[i]))
                    cache[key] = stack
                samples.append(Sample(name, stack, weight))
    except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a speedscope file of sampled profiles: {error}") from error
    return samples


def _is_whole(frame: Frame) -> bool:
    # py-spy reads without stopping the program, so now and then a frame is made of other memory.
    return bool(frame.file) and frame.file.isprintable() and frame.function.isprintable()


class _Thread(NamedTuple):
    process: int | None
    id: int | None
    name: str


def _thread(profile: str) -> _Thread:
    """Whose stacks a profile holds; the process is None where py-spy watched a single one."""
    # py-spy writes the thread's id in hexadecimal on some versions of Python.
    pattern = r'(?:Process (\d+) )?Thread (0x[0-9A-Fa-f]+|\d+)(?: "(.*)")?'
    match = re.match(pattern, profile)
    if match is None:
        return _Thread(None, None, profile or "unnamed")
    process = None if match[1] is None else int(match[1])
    return _Thread(process, int(match[2], 0), match[3] or "")


def _processes(frames: Sequence[Frame], samples: Sequence[Sequence[int]]) -> list[int]:
    """The process of a profile and those that started it: py-spy makes them the first frames."""
    found = []
    for index in samples[0] if samples else ():
        match = re.match(r"process (\d+):", frames[index].function)
        if match is None:
            break
        found.append(int(match[1]))
    return found


def _child(thread: _Thread, frames: Sequence[Frame], samples: Sequence[Sequence[int]]) -> str:
    """What a thread of a process that the program started is called."""
    if thread.id != thread.process:
        return f"process {thread.process}: {thread.name or thread.id}"
    if any(is_worker_loop(frames[index]) for sample in samples for index in sample):
        # Under one name: without persistent workers every epoch has new processes.
        return DATALOADER_WORKERS
    return f"process {thread.process}"


def is_worker_loop(frame: Frame) -> bool:
    """True of the frame that all of a DataLoader worker's work stands below."""
    return frame.function == "_worker_loop" and frame.file.endswith("/utils/data/_utils/worker.py")

"""Sampled stacks rooted at phases: reading, writing, and summing them into a tree."""

from __future__ import annotations

import functools
import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tfa_perf.profile.laps import DATALOADER_WORKERS, OTHER
from tfa_perf.profile.source import bare_name, definition_line, phase_of

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
OUTSIDE_STEPS = "outside the steps"
MAIN = "main"


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TARGET = os.path.join(_HERE, "_target.py")
# Frames between a call and the code that does the work, on nearly every torch stack.
_PASS_THROUGH = frozenset(
    {
        ("_call_impl", "torch/nn/modules/module.py"),
        ("_wrapped_call_impl", "torch/nn/modules/module.py"),
        ("decorate_context", "torch/utils/_contextlib.py"),
        ("profile_hook_step", "torch/optim/optimizer.py"),
        ("wrapper", "torch/optim/optimizer.py"),
        ("_use_grad", "torch/optim/optimizer.py"),
        ("maybe_fallback", "torch/optim/optimizer.py"),
        ("_no_grad_wrapper", "torch/nn/utils/clip_grad.py"),
        ("inner", "torch/_compile.py"),
        ("_fn", "torch/_dynamo/eval_frame.py"),
    }
)


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


class Window(NamedTuple):
    """Where the measured steps lie in a run, as two fractions of its time.

    `mark` is the function that the main thread stood in just before them. Seen in the stacks it
    settles their start: samples that a sampler lost would shift a fraction.
    """

    first: float
    last: float
    mark: str


@dataclass(frozen=True)
class Stack:
    """One stack for display, root first, and the seconds it stood.

    `thread` is ``"main"`` or another thread's name. On the main thread the first frame is a phase,
    or ``outside the steps``; elsewhere it is ``thread: NAME``, followed by the phase where the
    source has one.
    """

    thread: str
    frames: tuple[str, ...]
    weight: float


@dataclass
class Node:
    """A frame of the merged tree: seconds in it and below it."""

    name: str
    total: float = 0.0
    children: dict[str, Node] = field(default_factory=dict)


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
    if any(_is_worker_loop(frames[index]) for sample in samples for index in sample):
        # Under one name: without persistent workers every epoch has new processes.
        return DATALOADER_WORKERS
    return f"process {thread.process}"


def _is_worker_loop(frame: Frame) -> bool:
    return frame.function == "_worker_loop" and frame.file.endswith("/utils/data/_utils/worker.py")


def _below_start(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames below those that start a child process; a forked one has its parent's on top."""
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        started = bare_name(frame.function) == "_bootstrap" and frame.file.endswith(
            "/multiprocessing/process.py"
        )
        if started or _is_worker_loop(frame):
            return frames[index + 1 :]
    return frames


@functools.lru_cache(maxsize=4096)
def short_path(path: str) -> str:
    """A file's path from its package's root on: ``torch/nn/modules/linear.py``."""
    if path.startswith("<"):
        return path
    parts = Path(path).parts
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] in ("site-packages", "dist-packages"):
            return "/".join(parts[index + 1 :])
        if index > 1 and parts[index - 1] == "lib" and re.fullmatch(r"python3\.\d+", parts[index]):
            return "/".join(parts[index + 1 :])
    folder = Path(path).parent
    while folder != folder.parent and (folder / "__init__.py").exists():
        folder = folder.parent
    return Path(path).relative_to(folder).as_posix()


def frame_label(frame: Frame) -> str:
    """``function (file.py:line)`` with the line of its ``def``; module code carries no line."""
    path = short_path(frame.file)
    line = definition_line(frame.function, frame.file, frame.line)
    function = frame.function.replace(".<locals>", "").replace(";", ":")
    return f"{function} ({path}:{line})" if line else f"{function} ({path})"


@functools.lru_cache(maxsize=65536)
def _hidden(frame: Frame) -> bool:
    if frame.file.startswith(_HERE) or frame.file.startswith("<frozen importlib"):
        return True
    return (bare_name(frame.function), short_path(frame.file)) in _PASS_THROUGH


def find_phase(frames: Sequence[Frame]) -> tuple[str, int]:
    """The phase of a stack (root first) and the index of the frame that opened it.

    From the leaf towards the root, the first frame inside a ``with phase("...")`` block or a
    ``@phase("...")`` function decides; ``("other", 0)`` when none is.
    """
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        name = phase_of(frame.function, frame.file, frame.line)
        if name == OTHER:
            break
        if name is not None:
            return name.replace(";", ":"), index
    return OTHER, 0


def _launcher_depth(frames: Sequence[Frame]) -> int:
    for depth, frame in enumerate(frames):
        path = frame.file
        if path != _TARGET and path != "<frozen runpy>" and not path.endswith("/runpy.py"):
            return depth
    return len(frames)


@functools.lru_cache(maxsize=65536)
def _rooted(thread: str, frames: tuple[Frame, ...]) -> tuple[str, ...]:
    frames = frames[_launcher_depth(frames) :]
    if thread != MAIN:
        frames = _below_start(frames)
        name, _ = find_phase(frames)
        named = () if name == OTHER else (name,)
        labels = (frame_label(f) for f in frames if not _hidden(f))
        return (f"thread: {thread}", *named, *labels)
    name, first = find_phase(frames)
    # Start at the frame that called the hook or holds the block, not at main().
    while first > 0 and frames[first].file.startswith(_HERE):
        first -= 1
    return (name, *(frame_label(f) for f in frames[first:] if not _hidden(f)))


def _stands_in(sample: Sample, mark: str) -> bool:
    return any(f.function == mark and f.file.startswith(_HERE) for f in sample.frames)


def _inside(samples: Sequence[Sample], window: Window) -> tuple[float, float]:
    """First and last sampled second of the main thread that belong to the measured steps."""
    begin: float | None = None
    end: float | None = None
    total = 0.0
    for sample in samples:
        if end is None and _stands_in(sample, "mark_end"):
            end = total
        total += sample.weight
        if _stands_in(sample, window.mark):
            begin = total
    end = total if end is None else end
    begin = window.first * end if begin is None else begin
    share = (window.last - window.first) / max(1 - window.first, 1e-9)
    return begin, begin + share * (end - begin)


def root_at_phases(samples: Iterable[Sample], window: Window | None = None) -> list[Stack]:
    """Turn samples into displayed stacks, in order.

    Main-thread stacks out of `window` get the root ``outside the steps`` before their phase.
    """
    # Before the go and after the last line of the program only the launcher's frames are there.
    samples = [s for s in samples if s.thread != MAIN or _launcher_depth(s.frames) < len(s.frames)]
    samples = [s for s in samples if s.thread != MAIN or not _stands_in(s, "mark_catch_up")]
    stacks: list[Stack] = []
    now, first, last = 0.0, 0.0, float("inf")
    if window is not None:
        first, last = _inside([s for s in samples if s.thread == MAIN], window)
    for thread, frames, weight in samples:
        rooted = _rooted(thread, frames)
        if thread == MAIN:
            if not first <= now + weight / 2 <= last:
                rooted = (OUTSIDE_STEPS, *rooted)
            now += weight
        stacks.append(Stack(thread, rooted, weight))
    return stacks


def phase_shares(stacks: Iterable[Stack]) -> dict[str, float]:
    """Share of the main thread's time in the steps, 0 to 1, per phase."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        if stack.thread == MAIN and stack.frames[0] != OUTSIDE_STEPS:
            seconds[stack.frames[0]] += stack.weight
    total = sum(seconds.values())
    return {name: spent / total for name, spent in seconds.items()} if total else {}


def leave_out(stacks: Iterable[Stack], phases: Collection[str]) -> list[Stack]:
    """Move the main thread's stacks in `phases` out of the steps."""
    return [
        replace(stack, frames=(OUTSIDE_STEPS, *stack.frames))
        if stack.thread == MAIN and stack.frames[0] in phases
        else stack
        for stack in stacks
    ]


def build_tree(stacks: Iterable[tuple[Sequence[str], float]], name: str = "all") -> Node:
    """Merge (frames root first, weight) pairs into one tree."""
    root = Node(name)
    for frames, weight in stacks:
        root.total += weight
        node = root
        for frame in frames:
            child = node.children.get(frame)
            if child is None:
                child = node.children[frame] = Node(frame)
            child.total += weight
            node = child
    return root


def collapsed(stacks: Iterable[Stack]) -> str:
    """Collapsed stacks, one ``frame;frame;frame count`` per line; the count is in microseconds."""
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for stack in stacks:
        counts[stack.frames] += stack.weight
    return "".join(
        f"{';'.join(frames)} {round(weight * 1e6)}\n" for frames, weight in sorted(counts.items())
    )


def speedscope(stacks: Sequence[Stack], name: str) -> dict[str, Any]:
    """A speedscope document: one profile a thread, the main thread's first, rooted at phases."""
    indexes: dict[str, int] = {}
    profiles: dict[str, dict[str, Any]] = {}
    for stack in sorted(stacks, key=lambda s: s.thread != MAIN):
        profile = profiles.setdefault(
            stack.thread,
            {
                "type": "sampled",
                "name": stack.thread if stack.thread == MAIN else f"thread: {stack.thread}",
                "unit": "seconds",
                "startValue": 0.0,
                "endValue": 0.0,
                "samples": [],
                "weights": [],
            },
        )
        profile["samples"].append([indexes.setdefault(f, len(indexes)) for f in stack.frames])
        profile["weights"].append(stack.weight)
        profile["endValue"] += stack.weight
    return {
        "$schema": SPEEDSCOPE_SCHEMA,
        "name": name,
        "exporter": "tfa-perf",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in indexes]},
        "profiles": list(profiles.values()),
    }

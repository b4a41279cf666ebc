"""Sampled stacks for display: frames as labels, rooted at the phase that opened them."""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.samples import MAIN, Frame, Sample, is_worker_loop
from tfa_perf.profile.source import bare_name, definition_line, phase_of

OUTSIDE_STEPS = "outside the steps"

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


def _below_start(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames below those that start a child process; a forked one has its parent's on top."""
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        started = bare_name(frame.function) == "_bootstrap" and frame.file.endswith(
            "/multiprocessing/process.py"
        )
        if started or is_worker_loop(frame):
            return frames[index + 1 :]
    return frames


@functools.lru_cache(maxsize=4096)
def short_path(path: str) -> str:
    """A file's path from its package's root on: ``torch/nn/modules/linear.py``."""
    if path.startswith("<"):
        # torch numbers the code of its graphs anew in each run.
        return re.sub("^(<eval_with_key>).*", r"\1", path)
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


def _in_probe(sample: Sample) -> bool:
    """Whether a sample is of what the probe of the profiler's own cost does between blocks."""
    return _stands_in(sample, "mark_catch_up") or _stands_in(sample, "mark_wait_for_device")


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
    samples = [s for s in samples if s.thread != MAIN or not _in_probe(s)]
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

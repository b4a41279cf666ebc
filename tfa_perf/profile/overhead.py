"""What profiling itself costs a step: blocks of steps with and without it, in turn in one run.

The machine's speed drifts by more than the cost, but two blocks next to each other drift together.
So profiled and plain blocks alternate (AB, BA, AB, ...) after the first steps of a run; each pair
gives one ratio, and the cost is their median with its exact order-statistic interval.

A block on a GPU ends when the device has done its steps. That wait is not the program's, and what
the host would have waited for without it is in no phase: there the blocks are in no average.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from time import perf_counter_ns

from tfa_perf.order_statistics import median_interval
from tfa_perf.profile.gpu import CAPTURES, EVERY_STEP
from tfa_perf.profile.gpu_window import GpuProfile
from tfa_perf.profile.phases import Recorder
from tfa_perf.profile.steps import OverheadBlocks, StepLog

PAIRS = 20
# The fewest pairs whose extremes enclose the median with 95 % probability.
MIN_PAIRS = 6
FIRST_STEP = 40
# Long enough for two samples at the default rate.
_BLOCK_NS = 100_000_000
_SIDES = tuple(side for pair in range(PAIRS) for side in ((True, False), (False, True))[pair % 2])


def stop_pyspy(path: str) -> Callable[[bool], None]:
    """How to halt and continue the py-spies whose ids are in a file."""

    def halt(on: bool) -> None:
        with suppress(OSError), open(path, encoding="utf-8") as file:
            for line in file:
                with suppress(OSError):
                    os.kill(int(line), signal.SIGCONT if on else signal.SIGSTOP)

    return halt


def mark_wait_for_device() -> None:
    """Wait for what the host has launched, unless that would break a capture in another thread."""
    if not CAPTURES.running:
        sys.modules["torch"].cuda.synchronize()


def mark_catch_up(sample: Callable[[bool], None], seconds: float) -> None:
    """py-spy takes the samples that it missed at once: here they are told from the program's."""
    sample(True)
    time.sleep(seconds)


def rest(seconds: float) -> None:
    """A plain block begins as a profiled one does: with threads asleep and caches cold."""
    time.sleep(seconds)


class OverheadProbe:
    """Stands between the end of a step and the log of steps."""

    def __init__(
        self,
        recorder: Recorder,
        log: StepLog,
        gpu: GpuProfile,
        sample: Callable[[bool], None],
        first_step: int = FIRST_STEP,
    ) -> None:
        """`gpu` ends a profiled step; ``sample(False)`` halts the sampler, True continues it."""
        self._recorder, self._log, self._gpu, self._sample = recorder, log, gpu, sample
        self._first_step = first_step
        self._steps = 0
        self._walls: list[int] = []
        self._half_ns = 0
        self._size = 0
        self._pause_s = 0.0
        self._sides: list[bool] = []
        self._ns: dict[bool, list[int]] = {True: [], False: []}
        self._done = 0
        self._begin = self._last = perf_counter_ns()
        self._off_since = 0

    def cut(self) -> None:
        """End a step."""
        if self._sides:
            self._in_block()
            return
        self._gpu.cut()
        self._steps += 1
        # On a GPU the first steps cost more: each has its events.
        first = max(self._first_step, EVERY_STEP) if _on_gpu() else self._first_step
        if first // 2 < self._steps <= first:
            self._walls.append(perf_counter_ns() - self._last)
        if self._steps == first // 2:
            self._half_ns = perf_counter_ns()
        elif self._steps == first:
            self._plan_blocks()
        self._begin = self._last = perf_counter_ns()

    def _plan_blocks(self) -> None:
        step_ns = median(self._walls)
        if _on_gpu():
            # The host may be far ahead of the device, and most of its steps be the shorter ones.
            self._wait_for_device()
            step_ns = (perf_counter_ns() - self._half_ns) / len(self._walls)
        self._size = max(1, math.ceil(_BLOCK_NS / step_ns))
        # The sampler has two blocks to catch up with.
        self._pause_s = min(0.01 + 0.4 * self._size * step_ns / 1e9, 0.5)
        self._sides = list(_SIDES)

    def _wait_for_device(self) -> None:
        if _on_gpu():
            with self._recorder.pause():
                mark_wait_for_device()

    def _in_block(self) -> None:
        on = self._sides[0]
        if on:
            self._gpu.cut(averaged=not _on_gpu())
        else:
            self._log.count_unmeasured()
        self._done += 1
        if self._done < self._size:
            return
        self._wait_for_device()
        self._ns[on].append(perf_counter_ns() - self._begin)
        self._sides.pop(0)
        self._done = 0
        if on:
            self._sample(False)
            self._gpu.suspend()
            self._recorder.suspend()
            self._off_since = perf_counter_ns()
        if not self._sides or self._sides[0]:
            self._go_on()
        else:
            rest(self._pause_s)
        self._begin = perf_counter_ns()

    def _go_on(self) -> None:
        mark_catch_up(self._sample, self._pause_s)
        self._log.leave_out(perf_counter_ns() - self._off_since)
        self._recorder.resume()
        self._gpu.resume()

    def finish(self) -> OverheadBlocks | None:
        """The blocks of whole pairs; None when no pair was run. Profiling goes on."""
        if self._sides and not self._sides[0]:
            self._go_on()
        self._sides = []
        pairs = min(map(len, self._ns.values()))
        if not pairs:
            return None
        return OverheadBlocks(self._size, self._ns[True][:pairs], self._ns[False][:pairs])


def _on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def overhead_note(blocks: OverheadBlocks | None) -> str:
    """What profiling costs a step, with its interval, or why that is not known."""
    pairs = 0 if blocks is None else len(blocks.plain_ns)
    if blocks is None or pairs < MIN_PAIRS:
        return (
            f"profiling's own cost: the run is too short to tell ({pairs} of {MIN_PAIRS} pairs of "
            f"blocks after step {FIRST_STEP})"
        )
    logs = sorted(
        math.log(on / off) for on, off in zip(blocks.profiled_ns, blocks.plain_ns, strict=True)
    )
    low, high, _ = median_interval(pairs)
    middle, least, most = (100 * math.expm1(x) for x in (median(logs), logs[low], logs[high]))
    return (
        f"profiling costs {middle:+.1f} % [{least:+.1f}, {most:+.1f}] of a step ({pairs} pairs of "
        f"blocks of {blocks.steps} steps, with and without)"
    )

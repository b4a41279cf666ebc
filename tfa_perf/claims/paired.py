"""Rounds of several sides, the first of them twice: A/B ratios with an A/A beside each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tfa_perf.claims.measure import Ratio, paired_ratio

__all__ = ["Comparison", "compare", "covers_one", "repeat", "rounds", "timed"]

_SHORTEST_RUN_S = 0.02
_FEWEST, _MOST = 6, 20


@dataclass(frozen=True)
class Comparison:
    """A side beside the base: base/side, base/base, and median seconds of either."""

    ratio: Ratio
    again: Ratio
    before_s: float
    after_s: float
    attempts: int = 1

    @property
    def valid(self) -> bool:
        return covers_one(self.again)


def covers_one(ratio: Ratio) -> bool:
    return ratio.low <= 1 <= ratio.high


def rounds(sides: Sequence[Callable[[], float]], count: int) -> list[list[float]]:
    """Call the sides in turn, ``count`` times: forwards in even rounds, backwards in odd ones.

    Neighbours in ``sides`` thus run next to each other, AB and BA as often (count even).
    Returns what each call returned, a list for each side.
    """
    found: list[list[float]] = [[] for _ in sides]
    for number in range(count):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for side in order:
            found[side].append(sides[side]())
    return found


def compare(
    base: Callable[[], object],
    others: Mapping[str, Callable[[], object]],
    *,
    budget_s: float,
    device: torch.device,
    settle: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Comparison]:
    """Time ``base`` against each of ``others``.

    Everything runs once or twice before it counts. The number of rounds, 6 to 20, is what fits
    into ``budget_s``; it is fixed before the first of them. Where the A/A of the rounds does not
    cover 1, which chance alone does in one of twenty-five, all is measured once more.

    Parameters
    ----------
    settle : calls that precede a side's timed run untimed, by name ("" for the base).
    """
    settle = settle or {}
    sides = {"": base, **others}
    for side in sides.values():
        side()
    alone = {name: timed(side, device, settle.get(name))() for name, side in sides.items()}
    longest = max(alone.values())
    repeats = 1 if settle else max(1, round(_SHORTEST_RUN_S / max(longest, 1e-9)))
    timers = [
        timed(repeat(sides[name], repeats), device, settle.get(name)) for name in ("", *sides)
    ]
    per_round = (sum(alone.values()) + alone[""]) * repeats * (2 if settle else 1)
    count = int(min(_MOST, max(_FEWEST, budget_s / per_round)))
    count += count % 2
    attempts = 1
    repeated, before, *afters = rounds(timers, count)
    if not covers_one(paired_ratio(repeated, before)):
        attempts = 2
        repeated, before, *afters = rounds(timers, count)
    again = paired_ratio(repeated, before)
    return {
        name: Comparison(
            paired_ratio(before, after),
            again,
            sorted(before)[count // 2] / repeats,
            sorted(after)[count // 2] / repeats,
            attempts,
        )
        for name, after in zip(others, afters, strict=True)
    }


def repeat(call: Callable[[], object], times: int) -> Callable[[], object]:
    """``call``, that often in one call."""
    if times == 1:
        return call

    def repeated() -> None:
        for _ in range(times):
            call()

    return repeated


def timed(
    call: Callable[[], object],
    device: torch.device,
    settle: Callable[[], object] | None = None,
) -> Callable[[], float]:
    """A call that returns the seconds of ``call``, the device waited for before and after.

    ``settle`` precedes each run untimed.
    """

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def run() -> float:
        if settle is not None:
            settle()
        wait()
        start = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - start

    return run

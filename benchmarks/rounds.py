"""Rounds of two sides in turn: pytest-benchmark times one, the other runs beside each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tfa_perf.claims.measure import Ratio, paired_ratio

__all__ = ["NOISE", "Alternation", "Row", "repeats"]

# A row with the same code on both sides was 1.05x for a whole run, with a narrow interval, and why
# was not found: less than that is not claimed.
NOISE = 1.05

Call = Callable[[], object]
Timer = Callable[[], float]


class Alternation:
    """The other side, for ``benchmark.pedantic``: ahead of even rounds, after odd ones.

    With ``setup=first, teardown=second`` the order is AB, BA, AB, ..., so neither side is always
    the one that finds the caches as the other has left them.
    """

    def __init__(self, other: Call, timer: Timer) -> None:
        self.times: list[float] = []
        self._other, self._timer, self._round = other, timer, 0

    def first(self) -> None:
        if self._round % 2 == 0:
            self._run()

    def second(self) -> None:
        if self._round % 2 == 1:
            self._run()
        self._round += 1

    def _run(self) -> None:
        start = self._timer()
        self._other()
        self.times.append(self._timer() - start)


def repeats(times: Sequence[float], first: int = 0) -> list[tuple[float, float]]:
    """Pairs of neighbouring rounds of one side, from round ``first`` on: its A/A pairs.

    Every other pair is turned round, so that a drift of the machine cancels as it does in AB, BA.
    """
    pairs = list(zip(times[first::2], times[first + 1 :: 2], strict=False))
    return [pair if k % 2 == 0 else pair[::-1] for k, pair in enumerate(pairs)]


@dataclass
class Row:
    """Times (s) of rounds of two sides that ran next to each other, and what they did.

    Attributes
    ----------
    before, after : paired times; in a run of one side, only its own.
    again : A/A pairs, each side against itself.
    samples, moved, flops : windows or bars, bytes, and floating-point operations of one round.
    peak, peak_per_s : the measured bound, and its bytes or operations per second.
    """

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    again: list[tuple[float, float]] = field(default_factory=list)
    samples: int | None = None
    moved: int | None = None
    flops: int | None = None
    peak: str | None = None
    peak_per_s: list[float] = field(default_factory=list)

    @property
    def paired(self) -> bool:
        return bool(self.before) and len(self.before) == len(self.after)

    @property
    def ratio(self) -> Ratio | None:
        return paired_ratio(self.before, self.after) if self.paired else None

    @property
    def floor(self) -> Ratio | None:
        """A/A ratio: 1 but for noise. What lies inside its interval cannot be told from noise."""
        return paired_ratio(*zip(*self.again, strict=True)) if self.again else None

    @property
    def verdict(self) -> str:
        """What may be said of the after side.

        A difference is claimed where the interval of the ratio lies outside that of A/A and
        beyond `NOISE`.
        """
        ratio, floor = self.ratio, self.floor
        if ratio is None or floor is None:
            return ""
        if min(ratio.coverage, floor.coverage) < 0.95:
            return "no verdict: too few rounds"
        if not floor.low <= 1 <= floor.high:
            return "no verdict: A/A is not 1"
        if ratio.low > max(floor.high, NOISE):
            return "faster"
        if ratio.high < min(floor.low, 1 / NOISE):
            return "slower"
        return "no change detected"

    @property
    def seconds(self) -> float:
        """Median of the after side, or of the side that ran."""
        return median(self.after or self.before)

    @property
    def share(self) -> float | None:
        """Bytes or operations per second, as a share of the measured peak."""
        work = self.flops if self.peak == "GEMM" else self.moved
        if work is None or not self.peak_per_s or not self.seconds:
            return None
        return work / self.seconds / median(self.peak_per_s)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2

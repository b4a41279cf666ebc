import numpy as np
import pytest

from benchmarks.rounds import Alternation, Row, median, repeats
from benchmarks.tables import unpaired
from tfa_perf.units import duration, rate


def test_sides_alternate_and_swap_who_goes_first():
    order = []
    turns = Alternation(lambda: order.append("b"), iter(range(100)).__next__)
    for _ in range(4):
        turns.first()
        order.append("a")
        turns.second()
    assert "".join(order) == "baabbaab"
    assert turns.times == [1] * 4


def test_repeats_are_neighbouring_rounds_turned_round_in_turn():
    assert repeats([1, 2, 3, 4, 5]) == [(1, 2), (4, 3)]
    assert repeats([1, 2, 3, 4, 5], 1) == [(2, 3), (5, 4)]
    assert repeats([1]) == []


def test_a_steady_drift_is_no_difference_between_rounds_of_one_side():
    drifting = [1.02**n for n in range(40)]
    row = Row(drifting, drifting, repeats(drifting))
    assert row.floor.low <= 1 <= row.floor.high


def row_of(before, after, again):
    return Row(list(before), list(after), list(again))


def test_verdicts():
    calm = [(1.0, 1.01), (1.01, 1.0)] * 5
    assert row_of([2.0] * 10, [1.0] * 10, calm).verdict == "faster"
    assert row_of([1.0] * 10, [2.0] * 10, calm).verdict == "slower"
    # Within what a side differs from itself by.
    assert row_of([1.005] * 10, [1.0] * 10, calm).verdict == "no change detected"
    # Within what the same code on both sides has made.
    assert row_of([1.04] * 10, [1.0] * 10, calm).verdict == "no change detected"
    assert row_of([1.0] * 10, [1.04] * 10, calm).verdict == "no change detected"
    assert row_of([1.06] * 10, [1.0] * 10, calm).verdict == "faster"
    assert row_of([1.0] * 10, [1.06] * 10, calm).verdict == "slower"
    assert row_of([2.0] * 10, [1.0] * 10, [(1.1, 1.0)] * 10).verdict == "no verdict: A/A is not 1"
    assert row_of([2.0] * 5, [1.0] * 5, calm).verdict == "no verdict: too few rounds"
    assert row_of([2.0] * 10, [1.0] * 10, calm[:4]).verdict == "no verdict: too few rounds"
    assert row_of([2.0] * 10, [], calm).verdict == ""


def noisy(rng, rounds):
    """Log-normal times whose speed wanders, with spikes: a shared machine."""
    drift = np.exp(np.cumsum(rng.normal(0, 0.03, 2 * rounds)))
    spikes = np.where(rng.random(2 * rounds) < 0.1, 1 + rng.random(2 * rounds), 1)
    return drift * spikes * rng.lognormal(0, 0.08, 2 * rounds)


def null_row(rng, rounds, slowdown=1.0):
    """Two sides in turn, ABBA, of which the second takes ``slowdown`` times as long."""
    sides = ([], [])
    for k, pair in enumerate(noisy(rng, rounds).reshape(rounds, 2)):
        for side, t in zip((0, 1) if k % 2 == 0 else (1, 0), pair, strict=True):
            sides[side].append(t * (slowdown if side else 1))
    return Row(*sides, repeats(sides[1]) + repeats(sides[0], 1))


@pytest.mark.parametrize("rounds", [10, 20, 40])
def test_of_twenty_rows_without_a_difference_at_most_one_claims_one(rounds):
    rng = np.random.default_rng(0)
    claims = []
    for _ in range(50):
        verdicts = [null_row(rng, rounds).verdict for _ in range(20)]
        claims.append(sum(v in ("faster", "slower") for v in verdicts))
    assert np.mean(np.array(claims) <= 1) >= 0.95


def test_a_planted_difference_of_a_half_is_found_in_that_noise():
    rng = np.random.default_rng(1)
    found = [null_row(rng, 20, slowdown=1.5).verdict for _ in range(200)]
    assert found.count("slower") >= 160
    assert found.count("faster") == 0


def test_share_of_peak_is_work_per_second_over_the_peak():
    row = Row(after=[2.0] * 3, moved=100, flops=1000, peak="memcpy", peak_per_s=[200.0] * 3)
    assert row.share == pytest.approx(0.25)
    row.peak = "GEMM"
    assert row.share == pytest.approx(2.5)
    assert Row(after=[2.0]).share is None


def test_median_is_that_of_numpy():
    rng = np.random.default_rng(2)
    for n in range(1, 9):
        values = rng.random(n).tolist()
        assert median(values) == pytest.approx(np.median(values))


def test_interval_of_runs_not_in_turn_holds_the_ratio_of_medians():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        ratio = unpaired(rng.lognormal(np.log(2), 0.3, 20), rng.lognormal(0, 0.3, 20))
        held += ratio.low <= 2 <= ratio.high
    assert held >= 285
    assert ratio.coverage >= 0.95


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 us"), (3e-8, "30 ns")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_rates():
    assert rate(2.5e9, "B/s") == "2.5 GB/s"
    assert rate(12.0, "/s") == "12 /s"
    assert rate(None, "/s") == ""

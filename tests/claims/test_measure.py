import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.claims.measure import interleave, median_interval, paired_ratio


def test_twenty_pairs_take_the_6th_and_15th():
    low, high, coverage = median_interval(20)
    assert (low, high) == (5, 14)
    assert coverage == pytest.approx(0.9586, abs=1e-4)


@pytest.mark.parametrize("n", range(1, 13))
def test_coverage_is_that_of_counting_every_sign_pattern(n):
    low, high, coverage = median_interval(n)
    # The interval misses the median when too few, or too many, of the values lie below it.
    patterns = [sum(p) for p in itertools.product((0, 1), repeat=n)]
    inside = sum(low < below <= high for below in patterns)
    assert coverage == pytest.approx(inside / len(patterns))


@given(st.integers(6, 400))
def test_from_six_values_on_coverage_is_at_least_95_percent_and_no_wider_than_needed(n):
    low, high, coverage = median_interval(n)
    assert low + high == n - 1
    assert coverage >= 0.95
    narrower = 1 - 2 * sum(math.comb(n, i) for i in range(low + 2)) / 2**n
    assert narrower < 0.95 or low + 1 >= (n - 1) / 2


def test_interval_of_noise_covers_one_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        before, after = rng.lognormal(0, 0.3, (2, 20))
        ratio = paired_ratio(before, after)
        covered += ratio.low <= 1 <= ratio.high
    assert 370 <= covered <= 396


@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40).flatmap(
        lambda a: st.tuples(
            st.just(a), st.lists(st.floats(1e-6, 1e3), min_size=len(a), max_size=len(a))
        )
    )
)
def test_swapping_the_sides_inverts_the_ratio(sides):
    forward, backward = paired_ratio(*sides), paired_ratio(*sides[::-1])
    assert forward.low <= forward.median <= forward.high
    assert forward.median == pytest.approx(1 / backward.median)
    assert forward.low == pytest.approx(1 / backward.high)


def test_wording():
    assert str(paired_ratio([2.0] * 6, [1.0] * 6)) == "2.00x [2.00, 2.00]"
    assert paired_ratio([2.0] * 6, [1.0] * 6).verdict == "faster"
    assert paired_ratio([1.0] * 6, [2.0] * 6).verdict == "slower"
    assert paired_ratio([1.0, 2.0] * 3, [2.0, 1.0] * 3).verdict == "no change detected"


def test_unequal_or_empty_sides_are_refused():
    with pytest.raises(ValueError, match="1 and 2"):
        paired_ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="0 and 0"):
        paired_ratio([], [])
    with pytest.raises(ValueError, match="n: "):
        median_interval(0)


def test_sides_alternate_and_swap_who_goes_first():
    order = []
    times = interleave(lambda: order.append("b"), lambda: order.append("a"), 4)
    assert "".join(order) == "baabbaab"
    assert [len(side) for side in times] == [4, 4]
    assert all(t > 0 for side in times for t in side)

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.intervals import batch_means, mean_difference, t_quantile


@pytest.mark.parametrize(
    ("df", "expected"),
    [
        (2, 4.303),
        (3, 3.182),
        (5, 2.571),
        (8, 2.306),
        (10, 2.228),
        (19, 2.093),
        (38, 2.024),
        (1000, 1.962),
    ],
)
def test_t_quantile_is_the_table_s(df: float, expected: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(expected, abs=0.04)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.integers(1, 9)), min_size=1, max_size=1100))
def test_batches_hold_every_block_once(blocks: list[tuple[float, int]]) -> None:
    sums, steps = [b[0] for b in blocks], [b[1] for b in blocks]
    means = batch_means(sums, steps)
    assert 1 <= len(means) <= 20
    assert len(means) >= min(len(blocks), 10)
    length = -(-len(blocks) // 20)
    naive = []
    while blocks:
        cut = length if len(blocks) >= 2 * length else len(blocks)
        part, blocks = blocks[:cut], blocks[cut:]
        naive.append(sum(b[0] for b in part) / sum(b[1] for b in part))
    assert means == pytest.approx(naive)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(5)
    covered = 0
    for _ in range(2000):
        before = [draw.gauss(10, 1) for _ in range(20)]
        after = [draw.gauss(11, 3) for _ in range(8)]
        found = mean_difference(before, after)
        assert found is not None
        covered += found.low <= 1 <= found.high
    assert 0.935 <= covered / 2000 <= 0.965


def test_interval_of_alike_steps_is_wider_than_if_they_were_independent() -> None:
    # Steps that drift slowly: neighbours are nearly equal, so few of them are news.
    draw = random.Random(1)

    def drifting(count: int) -> list[float]:
        value, values = 0.0, []
        for _ in range(count):
            value = 0.99 * value + draw.gauss(0, 1)
            values.append(100 + value)
        return values

    covered = 0
    for _ in range(200):
        sides = [batch_means(drifting(4000), [1] * 4000) for _ in "ab"]
        found = mean_difference(*sides)
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 176


def test_too_few_batches_have_no_interval_and_equal_ones_one_of_no_width() -> None:
    assert mean_difference([1.0] * 5, [2.0] * 20) is None
    found = mean_difference([1.0] * 6, [2.0] * 6)
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)

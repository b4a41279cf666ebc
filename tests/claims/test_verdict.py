import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.claims.measure import Ratio
from tfa_perf.claims.verdict import estimate_of, judge


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.6, 0.8, "CONFIRMED"),
        (0.7, 0.7, "CONFIRMED"),
        (0.6, 0.81, "AT LEAST"),
        (0.8, 0.81, "AT LEAST"),
        (0.81, 0.9, "EXCEEDED"),
        (0.5, 0.59, "REFUTED"),
        (-2.0, -1.0, "REFUTED"),
        (0.59, 0.6, "INCONCLUSIVE"),
        (0.59, 0.7, "INCONCLUSIVE"),
        (0.5, 0.9, "INCONCLUSIVE"),
    ],
)
def test_verdicts_on_a_claim_of_60_to_80_percent(low, high, verdict):
    assert judge(low, high, 0.6, 0.8) == verdict


def test_faster_at_all_is_open_above():
    assert judge(1.0, 9.0, 1.0, math.inf) == "CONFIRMED"
    assert judge(0.99, 1.01, 1.0, math.inf) == "INCONCLUSIVE"
    assert judge(0.5, 0.99, 1.0, math.inf) == "REFUTED"


@given(*[st.floats(-10, 10)] * 4)
def test_every_interval_has_exactly_the_verdict_of_its_place(a, b, c, d):
    (low, high), (L, U) = sorted((a, b)), sorted((c, d))
    verdict = judge(low, high, L, U)
    assert (verdict == "REFUTED") == (high < L)
    assert (verdict == "EXCEEDED") == (low > U)
    assert (verdict == "CONFIRMED") == (low >= L and high <= U)
    assert (verdict == "INCONCLUSIVE") == (low < L <= high)


def test_what_is_no_interval_is_refused():
    for ends in ((0.8, 0.6, 0, 1), (0.1, 0.2, 1, 0), (math.nan, 0.2, 0, 1)):
        with pytest.raises(ValueError, match="low, high"):
            judge(*ends)


def test_a_ratio_of_4_is_a_reduction_of_three_quarters():
    ratio = Ratio(4.0, 2.0, 5.0, 0.96, 20)
    reduction = estimate_of(ratio, "reduction")
    assert (reduction.value, reduction.low, reduction.high) == (0.75, 0.5, 0.8)
    assert estimate_of(ratio, "share") == reduction
    assert estimate_of(ratio, "speedup").high == 5.0

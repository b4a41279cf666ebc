import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.scaling.fit import fit_power

SIZES = [10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7]


@given(exponent=st.floats(-1, 3), factor=st.floats(1e-9, 1e3))
def test_a_planted_exponent_is_found_to_the_last_digit(exponent, factor):
    power = fit_power(SIZES, [factor * n**exponent for n in SIZES])
    assert power.exponent == pytest.approx(exponent, abs=1e-9)
    assert power.low <= power.high and power.high - power.low < 1e-6
    assert power.at(10**5) == pytest.approx(factor * 10 ** (5 * exponent))


def test_the_interval_holds_the_planted_exponent_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        noisy = np.array(SIZES) ** 1.3 * np.exp(0.2 * rng.standard_normal(len(SIZES)))
        power = fit_power(SIZES, list(noisy))
        held += power.low <= 1.3 <= power.high
    assert 0.935 <= held / 2000 <= 0.965


def test_slope_and_interval_by_hand():
    # x = 0, 1, 2 and y = 0, 1, 3: slope 1.5, residuals 1/6, -1/3, 1/6, error sqrt(1/6 / 2).
    power = fit_power([1, math.e, math.e**2], [1, math.e, math.e**3])
    assert power.exponent == pytest.approx(1.5)
    assert power.high - power.exponent == pytest.approx(12.706 * math.sqrt(1 / 12), rel=1e-6)


def test_two_points_have_no_interval():
    assert fit_power([1, 2], [1.0, 2.0]) is None


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [([1, 2, 2], [1, 2, 3]), ([1, 2, 3], [1, 2]), ([0, 1, 2], [1, 2, 3]), ([1, 2, 3], [1, 0, 3])],
)
def test_what_has_no_logarithm_or_no_slope_is_refused(sizes, seconds):
    with pytest.raises(ValueError, match="sizes, seconds"):
        fit_power(sizes, seconds)

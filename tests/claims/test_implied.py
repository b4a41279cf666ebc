import math

import pytest

from tfa_perf.claims.implied import implied, implied_text, total_speedup
from tfa_perf.claims.table import CLAIMS, SHARES


def test_the_component_claims_give_less_than_three_times():
    found = implied()
    # Worked by hand: 1 / (.4 * .4 + .3 * .7 + .2 * .6 + .1 * .8), and so on.
    assert found.low == pytest.approx(1 / 0.57)
    assert found.high == pytest.approx(1 / 0.38)
    assert found.ceiling == pytest.approx(1 / 0.22)
    for figure in ("1.75x to 2.63x", "not 3-5x", "ceiling is 4.5x"):
        assert figure in implied_text()


def test_amdahl():
    assert total_speedup([1.0], [0.5]) == 2
    assert total_speedup([0.5, 0.5], [0.0, 0.0]) == 1
    with pytest.raises(ValueError, match="add up to 1"):
        total_speedup([0.5], [0.5])
    with pytest.raises(ValueError, match="got 1 and 2"):
        total_speedup([1.0], [0.5, 0.5])


def test_the_table_is_sound():
    assert len({about.id for about in CLAIMS}) == len(CLAIMS)
    assert sum((about.low + about.high) / 2 for about in SHARES) == pytest.approx(1)
    for about in CLAIMS:
        assert about.low < about.high
        assert about.kind == "speedup" or not math.isinf(about.high)

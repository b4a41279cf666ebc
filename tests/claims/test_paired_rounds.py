import time

import pytest
import torch

from tfa_perf.claims.finding import found, from_json, to_json
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.paired import Comparison, compare, rounds


def test_rounds_turn_and_neighbours_stay_neighbours():
    order = []
    sides = [lambda name=name: order.append(name) or 1.0 for name in "aAB"]
    times = rounds(sides, 4)
    assert "".join(order) == "aABBAaaABBAa"
    assert [len(side) for side in times] == [4, 4, 4]


def test_a_side_of_twice_the_work_is_found_and_the_base_equals_itself():
    # Waiting takes as long on a busy machine.
    sides = {"twice": lambda: time.sleep(0.06)}
    result = compare(lambda: time.sleep(0.03), sides, budget_s=2, device=torch.device("cpu"))
    result = result["twice"]
    assert result.ratio.pairs >= 6 and result.again.pairs == result.ratio.pairs
    assert result.ratio.high < 1 and result.before_s < result.after_s


def test_no_verdict_where_a_a_does_not_cover_one():
    ratio = paired_ratio([2.0] * 6, [1.0] * 6)
    uneven = paired_ratio([1.1] * 6, [1.0] * 6)
    finding = found("total", "v", "w", "c", Comparison(ratio, uneven, 2.0, 1.0))
    assert finding.verdict == "INVALID" and "1.10x" in finding.note
    even = paired_ratio([1.0, 1.1] * 3, [1.1, 1.0] * 3)
    finding = found("total", "v", "w", "c", Comparison(ratio, even, 2.0, 1.0))
    assert finding.verdict == "REFUTED"
    assert from_json(to_json(finding)) == finding


@pytest.mark.parametrize("kind", ["compute", "window"])
def test_measured_text_is_in_the_claims_own_terms(kind):
    ratio = paired_ratio([2.0] * 6, [1.0] * 6)
    even = paired_ratio([1.0] * 6, [1.0] * 6)
    text = found(kind, "v", "w", "c", Comparison(ratio, even, 2.0, 1.0)).measured
    assert text == {"compute": "50.0 % [50.0, 50.0]", "window": "2.00x [2.00, 2.00]"}[kind]

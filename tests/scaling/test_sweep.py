import json
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch

from tfa_perf import cli
from tfa_perf.available_memory import available_bytes
from tfa_perf.claims.workload import OutputsDiffer
from tfa_perf.scaling import sweep
from tfa_perf.scaling.data import data_sweeps, table
from tfa_perf.scaling.output import scaling_json, scaling_markdown
from tfa_perf.scaling.plot import sweep_plot
from tfa_perf.scaling.sizes import Sizes
from tfa_perf.scaling.sweep import Sweep, run_sweep
from tfa_perf.scaling.training import training_sweeps

CPU = torch.device("cpu")
TINY = Sizes(
    rows=(200, 400, 800),
    features=(4, 8),
    windows=(4, 8),
    batches=(8, 16),
    step_windows=(4, 8),
    step_batches=(4, 8),
    table=3000,
    budget_s=600.0,
)


def sleeping(sizes, seconds=lambda size: size * 1e-3, **given):
    """Sides that take so long, the one after half of it."""

    def sides(size):
        return {
            "before": lambda: time.sleep(seconds(size)),
            "after": lambda: time.sleep(seconds(size) / 2),
        }

    made = {"fixed": "nothing else", "sides": sides, "check": lambda calls: None, **given}
    return Sweep("sleep-N", "sleep <&>", "N", sizes, **made)


def test_a_linear_cost_has_exponent_one_and_points_their_intervals():
    swept = run_sweep(sleeping([4, 16, 64]), 0.8, CPU)
    for side, factor in (("before", 1), ("after", 0.5)):
        assert [p.size for p in swept.points[side]] == [4, 16, 64]
        assert swept.power(side).exponent == pytest.approx(1, abs=0.2)
        for p in swept.points[side]:
            assert p.low <= p.seconds <= p.high and p.repeats >= 6 and p.coverage >= 0.95
            assert p.low >= factor * p.size * 1e-3
    assert set(swept.ratios) == {4, 16, 64}
    assert swept.left_out == []


def test_a_side_that_takes_too_long_is_left_out_from_there_on_and_the_other_goes_on():
    swept = run_sweep(sleeping([2, 20, 40, 41]), 0.2, CPU)
    assert [p.size for p in swept.points["before"]] == [2, 20]
    assert [p.size for p in swept.points["after"]] == [2, 20, 40, 41]
    assert [(left.size, left.side) for left in swept.left_out] == [(40, "before"), (41, "before")]
    assert "6 runs of" in swept.left_out[0].why and "0.2 s" in swept.left_out[0].why
    assert set(swept.ratios) == {2, 20}


def test_memory_that_is_not_there_is_not_taken():
    def sides(size):
        assert size == 1, "made what does not fit"
        return {"before": lambda: None, "after": lambda: None}

    enough = available_bytes()
    swept = run_sweep(
        sleeping([1, 2, 3], sides=sides, bytes=lambda size: 0 if size == 1 else enough), 0.1, CPU
    )
    assert [left.size for left in swept.left_out] == [2, 3]
    assert all("more than half" in left.why for left in swept.left_out)


def test_sides_that_differ_are_not_timed():
    def check(calls):
        raise OutputsDiffer("1 and 2")

    swept = run_sweep(sleeping([1, 2], check=check), 0.1, CPU)
    assert swept.points == {}
    assert [left.why for left in swept.left_out] == ["invalid: 1 and 2"] * 2


@pytest.mark.parametrize("swap", [False, True])
def test_every_sweep_computes_the_same_on_both_sides_and_a_planted_error_is_seen(tmp_path, swap):
    axes = []
    for one in (*data_sweeps(TINY, CPU, tmp_path), *training_sweeps(TINY, CPU)):
        axes.append(one.id)
        for size in one.sizes[:1] if swap else (one.sizes[0], one.sizes[-1]):
            calls = dict(one.sides(size))
            assert list(calls) == ["before", "after"]
            if swap and not one.id.startswith("cache-save"):
                wrong = calls["after"]
                calls["after"] = lambda wrong=wrong: spoiled(wrong())
                with pytest.raises(OutputsDiffer):
                    one.check(calls)
            else:
                one.check(calls)
    assert axes == [
        *("features-N", "features-F", "gather-N", "gather-F", "gather-T", "gather-B"),
        *("loader-N", "cache-save-N", "cache-load-N", "step-T", "step-B", "step-F", "epoch-N"),
    ]


def spoiled(made):
    if isinstance(made, tuple):
        return made[0] + 1, made[1]
    return made + 1


def test_a_long_table_comes_round_again():
    assert np.array_equal(table(100_003, 3)[100_000:], table(3, 3))


def test_output_is_whole_and_text_stays_text():
    swept = run_sweep(sleeping([2, 20, 40]), 0.2, CPU)
    root = ET.fromstring(sweep_plot(swept))
    assert any("sleep <&>" in (element.text or "") for element in root.iter())
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert len(circles) == sum(map(len, swept.points.values()))
    for circle in circles:
        assert 0 <= float(circle.get("cx")) <= 400 and 0 <= float(circle.get("cy")) <= 310
    tree = json.loads(scaling_json([swept], {"cpu": "x"}), parse_constant=pytest.fail)
    assert tree["sweeps"][0]["left_out"][0]["size"] == 40
    assert tree["sweeps"][0]["exponents"]["after"]["points"] == 3
    assert tree["sweeps"][0]["exponents"]["before"] is None
    page = scaling_markdown([swept], {"cpu": "x"})
    assert page.count("\n| ") == 4
    assert "- left out: 40, before: 6 runs of" in page


def test_the_command_writes_what_it_says(tmp_path, monkeypatch):
    # As it is, but for the sizes and for how often a run is repeated.
    no_time = replace(TINY, budget_s=1e-9)
    monkeypatch.setattr(Sizes, "of", classmethod(lambda cls, quick: no_time))
    monkeypatch.setattr(sweep, "_MOST", 6)
    monkeypatch.setattr(sweep, "_SHORTEST_RUN_S", 0.0)
    options = ["--quick", "--seconds", "600", "--device", "cpu", "--out", str(tmp_path / "o")]
    assert cli.main(["scaling", *options]) == 0
    tree = json.loads((tmp_path / "o" / "scaling.json").read_text())
    assert len(tree["sweeps"]) == 13
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert names == {"scaling.json", "scaling.md", *(one["plot"] for one in tree["sweeps"])}
    for one in tree["sweeps"]:
        assert len(one["points"]["after"]) == len(one["points"]["before"]) >= 2


def test_bad_input_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scaling", "--device", "abacus"]) == 2
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1 and "abacus" in errors
    assert list(tmp_path.iterdir()) == []

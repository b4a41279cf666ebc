import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tfa_perf.config import load_config
from tfa_perf.data.bars import Bars
from tfa_perf.data.synthetic import synthetic_bars
from tfa_perf.demo import sides as sides_module
from tfa_perf.demo.sides import MismatchError, SeveralSeriesError, build_sides
from tfa_perf.demo.table import step_table
from tfa_perf.demo.timing import StepTimes
from tfa_perf.profile.laps import Lap

TINY = [
    "data.window=8",
    "model.d_model=8",
    "model.nhead=2",
    "model.num_layers=1",
    "model.ffn_hidden=8",
    "train.batch_size=200",
]
CPU = torch.device("cpu")


def test_demo_writes_a_table_and_a_page(tmp_path):
    flags = [part for key in TINY for part in ("--set", key)]
    flags += ["--bars", "synthetic:900", "--pairs", "6", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "tfa_perf", "demo", *flags],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for word in ("feature building", "cache save", "backward", "samples/s", "6 steps of either"):
        assert word in done.stdout
    stacks = (tmp_path / "out" / "stacks.collapsed").read_text()
    assert "tfa_perf/baseline/loop.py" in stacks and "tfa_perf/train/step.py" in stacks
    for side in ("before", "after"):
        assert (tmp_path / "out" / f"flame-{side}.svg").read_text().startswith("<svg")
    page = (tmp_path / "out" / "flame.html").read_text()
    assert "<h2>before: " in page and "<h2>after: " in page
    assert json.loads((tmp_path / "out" / "run.json").read_text())["exit_code"] == 0
    assert "[TFA] Epoch 1/" in (tmp_path / "out" / "before.log").read_text()


def test_both_sides_see_the_same_windows_step_by_step():
    config = load_config("report", TINY)
    sides = build_sides(synthetic_bars(900), config, config, CPU, steps=9)
    steps = [(next(sides.before), next(sides.after)) for _ in range(9)]
    assert all(before == after for before, after in steps)
    assert {before for before, _ in steps} > {200}


def test_several_symbols_are_refused():
    config = load_config("report", TINY)
    with pytest.raises(SeveralSeriesError, match="2 symbols"):
        build_sides(synthetic_bars(2000, symbols=2), config, config, CPU, steps=1)


@pytest.mark.parametrize("what", ["features", "logits"])
def test_sides_that_differ_are_not_timed(what, monkeypatch):
    config = load_config("report", TINY)
    if what == "features":
        original = sides_module.build_features_as_written

        def wrong(bars: Bars, spec: str) -> np.ndarray:
            values = original(bars, spec)
            values[500, 7] *= 1.5
            return values

        monkeypatch.setattr(sides_module, "build_features_as_written", wrong)
    else:
        original = sides_module.TFATransformer.forward
        monkeypatch.setattr(
            sides_module.TFATransformer, "forward", lambda self, x: original(self, x) + 1e-3
        )
    with pytest.raises(
        MismatchError, match="feature 'sma_close_10'" if what == "features" else "logits"
    ):
        build_sides(synthetic_bars(900), config, config, CPU, steps=1)


def test_table_phases_add_up_to_the_step():
    def side(factor):
        phases = {"forward": 0.2 * factor, "backward": 0.5 * factor, "other": 0.3 * factor}
        return StepTimes([Lap(factor, phases, {})] * 6, [100] * 6)

    table = step_table(side(2.0), side(1.0))
    cells = {
        name: [str(column._cells[i]) for column in table.columns[1:]]
        for i, name in enumerate(table.columns[0]._cells)
    }
    assert list(cells) == ["backward", "forward", "other", "step", "samples/s"]
    assert cells["backward"] == ["1,000.00", "50.0%", "500.00", "50.0%", "2.00x [2.00, 2.00]"]
    assert cells["step"] == ["2,000.00", "100.0%", "1,000.00", "100.0%", "2.00x [2.00, 2.00]"]
    assert cells["samples/s"] == ["50", "", "100", "", ""]

"""The legacy feature builder's call, and a trainer that changes its imports alone."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tfa_kernels import SpecError, build_features
from tfa_perf.baseline.features import build_features as legacy_features
from tfa_perf.compat import build_features_from_spec
from tfa_perf.config import bundled_configs
from tfa_perf.data.synthetic import synthetic_bars

COLUMNS = ("open", "high", "low", "close", "volume")
SPEC = (bundled_configs() / "features" / "tfa55.json").read_text(encoding="utf-8")

# The report's train_tfa_fast, but for its model; {windows} and {features} are its imports.
TRAINER = """
import json
import torch
{windows}
{features}

def train(symbol, bars, spec_json, T=8, batch=64, epochs=2):
    X = build_features_from_spec(
        symbol, bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume, spec_json
    )
    emit = json.loads(spec_json)["alignment_policy"]["emit_from_index"]
    X = (X - X[emit:].mean(0)) / (X[emit:].std(0) + 1e-6)
    y = (bars.close[1:] > bars.close[:-1]).astype("float32").reshape(-1, 1)
    dataset = SeqWindows(X[:-1], y, T, emit + T - 1, len(y) - 1, batch)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(T * X.shape[1], 1))
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    losses = []
    for ep in range(epochs):
        for bx, by in loader:
            opt.zero_grad(set_to_none=True)
            loss = criterion(model(bx), by)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            opt.step()
            losses.append(loss.item())
    return losses
"""


def columns(bars):
    return [getattr(bars, name) for name in COLUMNS]


def test_it_is_build_features():
    bars = synthetic_bars(400)
    found = build_features_from_spec("SYN0", bars.ts, *columns(bars), SPEC)
    assert found.dtype == np.float32 and found.flags.c_contiguous and found.shape == (400, 55)
    assert np.array_equal(found, build_features(bars, json.loads(SPEC)).values)
    lists = [column.tolist() for column in columns(bars)]
    assert np.array_equal(build_features_from_spec("SYN0", bars.ts.tolist(), *lists, SPEC), found)


def test_a_legacy_trainer_runs_with_nothing_but_its_imports_changed():
    bars = synthetic_bars(700)
    losses = {}
    for side, windows, features in (
        (
            "legacy",
            "from tfa_perf.baseline.windows import SeqWindows",
            "",
        ),
        (
            "ours",
            "from tfa_perf.compat import SeqWindows",
            "from tfa_perf.compat import build_features_from_spec",
        ),
    ):
        space = {}
        if side == "legacy":
            # The report's builder in its own call; its own module is C++.
            space["build_features_from_spec"] = lambda symbol, ts, *rest: legacy_features(
                bars, Path(bundled_configs() / "features" / "tfa55.json")
            )
        exec(TRAINER.format(windows=windows, features=features), space)
        losses[side] = space["train"]("SYN0", bars, SPEC)
    assert len(losses["ours"]) == 2 * -(-(699 - 64 - 7) // 64)
    assert losses["ours"][-1] < losses["ours"][0]
    np.testing.assert_allclose(losses["ours"], losses["legacy"], rtol=1e-2)


@pytest.mark.skipif(not os.environ.get("TFA_GOLDEN"), reason="TFA_GOLDEN names no folder")
def test_the_legacy_builders_own_output():
    folder = Path(os.environ["TFA_GOLDEN"])
    with np.load(folder / "legacy_golden.npz") as file:
        bars, wanted = {name: file[name] for name in ("ts", *COLUMNS)}, file["X"]
    text = (folder / "legacy_spec.json").read_text(encoding="utf-8")
    found = build_features_from_spec("TQQQ", **bars, spec_json=text)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    # How far each column may be off is in tests/kernels/test_legacy_golden.py.
    gaps = np.abs(found - wanted).max(axis=0) / np.abs(wanted).max(axis=0)
    assert np.median(gaps) < 2e-4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"spec_json": "configs/tfa55.json"}, SpecError, "spec_json is not valid JSON"),
        ({"spec_json": json.loads(SPEC)}, TypeError, r"use json.dumps\(spec\)"),
        ({"spec_json": SPEC.replace("EMA", "EMU")}, SpecError, "unknown op 'EMU'"),
        ({"ts": [1, 2]}, ValueError, "symbol 'SYN0': columns differ in shape"),
        ({"close": ["x"] * 80}, TypeError, "'close' must be numeric"),
    ],
)
def test_bad_input_is_named(change, error, words):
    bars = synthetic_bars(80)
    given = {name: getattr(bars, name) for name in ("ts", *COLUMNS)}
    with pytest.raises(error, match=words):
        build_features_from_spec(**{"symbol": "SYN0", **given, "spec_json": SPEC, **change})

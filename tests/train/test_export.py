"""Exported files against the model in the process that trained it."""

import json

import numpy as np
import pytest
import torch

from tfa_kernels import build_features
from tfa_perf.cli import main
from tfa_perf.config import load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.data.dataset import build_dataset
from tfa_perf.train.checkpoint import CheckpointError, write_checkpoint
from tfa_perf.train.export import METADATA, ExportError, export_model, load_model
from tfa_perf.train.run import train
from tfa_perf.train.setup import make_loader

BARS = "synthetic:1500"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Per kind of positions: the saved model, raw windows, and logits of the scaled table."""
    shape = ["d_model=8", "nhead=2", "num_layers=2", "ffn_hidden=8", "dropout=0.1"]
    made = {}
    for positions in ("none", "rotary", "learned"):
        config = load_config(
            "tuned", [*(f"model.{s}" for s in shape), f"model.positions={positions}"]
        )
        folder = tmp_path_factory.mktemp(positions)
        bars = load_bars(BARS)
        options = {"max_steps": 1, "out": folder / "model.pt", "checkpoints": folder}
        model = train(config, bars, torch.device("cpu"), **options).eval()
        data = build_dataset(bars, config.data)
        raw = build_features(bars, config.data.features).values
        ends = data.split.val_ends[:5]
        window = config.data.window
        scaled = next(iter(make_loader(data, config, torch.device("cpu"), part="val")))[0][:5]
        windows = np.stack([raw[end - window + 1 : end + 1] for end in ends])
        with torch.no_grad():
            made[positions] = folder / "model.pt", windows, model(scaled).numpy(), data.names
    return made


@pytest.mark.parametrize("positions", ["none", "rotary", "learned"])
def test_torch_export_takes_raw_features_in_any_batch(fitted, tmp_path, positions):
    saved, windows, logits, names = fitted[positions]
    out = tmp_path / "new" / "model.pt2"
    export_model(saved, out)
    assert list(out.parent.iterdir()) == [out]
    extra = {METADATA: ""}
    program = torch.export.load(out, extra_files=extra).module()
    for rows in (5, 1):
        given = program(torch.from_numpy(windows[:rows])).detach().numpy()
        np.testing.assert_allclose(given, logits[:rows], rtol=1e-4, atol=1e-5)
    assert json.loads(extra[METADATA]) == {"features": list(names), "window": 32, "horizon": 1}


@pytest.mark.parametrize("positions", ["none", "rotary", "learned"])
def test_onnx_takes_raw_features_in_any_batch(fitted, tmp_path, positions):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    saved, windows, logits, names = fitted[positions]
    out = tmp_path / "model.onnx"
    export_model(saved, out)
    assert list(tmp_path.iterdir()) == [out]
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    for rows in (5, 1):
        (given,) = session.run(["logits"], {"features": windows[:rows]})
        np.testing.assert_allclose(given, logits[:rows], rtol=1e-4, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert about == {"features": list(names), "window": 32, "horizon": 1}


def test_the_model_needs_its_scaler(fitted):
    """Raw and scaled windows differ enough for the tests above to see a missing scaler."""
    saved, windows, logits, _ = fitted["none"]
    model, _ = load_model(saved)
    with torch.no_grad():
        unscaled = model.model(torch.from_numpy(windows)).numpy()
    assert abs(unscaled - logits).max() > 1e-2


def test_what_cannot_be_exported_is_named_and_nothing_is_written(fitted, tmp_path):
    saved = fitted["none"][0]
    with pytest.raises(ExportError, match=r"unknown format '\.txt'; use \.pt2 or \.onnx"):
        export_model(saved, tmp_path / "model.txt")
    with pytest.raises(CheckpointError, match=r"last\.pt: holds no 'features'; give the model"):
        export_model(saved.parent / "last.pt", tmp_path / "model.pt2")
    content = torch.load(saved, weights_only=True)
    content["features"] = content["features"][:-1]
    write_checkpoint(tmp_path / "other.pt", content)
    with pytest.raises(CheckpointError, match=r"other\.pt: its model cannot be rebuilt"):
        export_model(tmp_path / "other.pt", tmp_path / "model.pt2")
    assert {path.name for path in tmp_path.iterdir()} == {"other.pt"}


def test_the_command(fitted, tmp_path, capfd):
    saved = str(fitted["none"][0])
    capfd.readouterr()
    assert main(["export", saved, str(tmp_path / "model.pt2")]) == 0
    assert capfd.readouterr().out == f"wrote {tmp_path / 'model.pt2'}\n"
    assert (tmp_path / "model.pt2").exists()
    assert main(["export", saved, str(tmp_path / "model.txt")]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("tfa-perf: error: ")
    assert errors.count("\n") == 1

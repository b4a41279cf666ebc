"""The memory that a config asks for is known before anything is made."""

import time

import pytest
import torch

from tfa_perf.config import ConfigError, ModelConfig, load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.train import model_size
from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tfa_perf.train.export import load_model
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.run import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("positions", ["none", "learned", "rotary"])
@pytest.mark.parametrize("layers", [1, 3])
def test_bytes_of_the_parameters(positions, layers):
    config = ModelConfig(d_model=12, nhead=3, num_layers=layers, ffn_hidden=7, positions=positions)
    model = WindowEncoder(5, config, window=9)
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert model_size.parameter_bytes(config, features=5, window=9) == held


@pytest.mark.parametrize(
    "change",
    [
        "model.d_model=1048576", "model.ffn_hidden=1000000000000", "model.num_layers=1000000000000",
        "train.batch_size=1000000000000", "data.window=1000000000000",
    ],
)  # fmt: skip
def test_no_config_takes_more_memory_than_there_is(change):
    micro = "train.micro_batch=1000000000000"
    config = load_config("tuned", ["train.epochs=1", micro, change])
    began = time.monotonic()
    # A window that no series has is another error, as early.
    with pytest.raises(ValueError, match=r"at the least, .* GB are free; use a smaller|window"):
        train(config, load_bars("synthetic:1500"), CPU)
    assert time.monotonic() - began < 60


def test_heads_of_a_huge_model_are_told_at_once():
    with pytest.raises(ConfigError, match="nhead: 7 does not divide d_model"):
        load_config("tuned", ["model.d_model=1000000000000", "model.nhead=7"])


def test_a_model_file_that_describes_a_huge_model(tmp_path):
    config = load_config("tuned", ["model.num_layers=1000000000"]).model_dump()
    scaler = {"mean": [0.0], "scale": [1.0]}
    weights = {"weight": torch.zeros(3)}
    content = {"config": config, "features": ["a"], "model": weights, "scaler": scaler}
    write_checkpoint(tmp_path / "model.pt", content)
    with pytest.raises(CheckpointError, match=r"rebuilt \(that of its config has .* bytes, its"):
        load_model(tmp_path / "model.pt")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Config, bars and checkpoint of a run of one step."""
    folder = tmp_path_factory.mktemp("begun")
    shape = ["d_model=8", "nhead=2", "num_layers=1", "ffn_hidden=8"]
    config = load_config("tuned", [f"model.{s}" for s in shape])
    bars = load_bars("synthetic:1500")
    train(config, bars, CPU, checkpoints=folder, max_steps=1)
    return config, bars, read_checkpoint(folder / "last.pt")


def endless():
    """A list of ten lists of ten lists ..., which takes a few bytes to write and none to hold."""
    value = ["x"] * 10
    for _ in range(12):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"config": 3}, {"config": {"data": {"window": endless()}}}, {"config": {"data": [1]}},
        {"scaler": endless()}, {"trainer": endless()}, {"trainer": {}}, {"stopping": {}},
    ],
)  # fmt: skip
def test_a_checkpoint_that_holds_other_things(begun, tmp_path, change):
    config, bars, content = begun
    write_checkpoint(tmp_path / "last.pt", content | change)
    with pytest.raises(CheckpointError, match=r"last\.pt: ") as caught:
        train(config, bars, CPU, checkpoints=tmp_path, resume=True)
    assert len(str(caught.value)) < 500

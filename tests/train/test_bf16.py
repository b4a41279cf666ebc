"""The choice of bfloat16 on a CPU."""

import time

import pytest
import torch
from torch import nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.bars import load_bars
from tfa_perf.train.bf16 import probed, use_bf16
from tfa_perf.train.checkpoint import read_checkpoint
from tfa_perf.train.run import train
from tfa_perf.train.trainer import Trainer

CPU = torch.device("cpu")
PROBE = TrainConfig(amp="probe")


class Sleeping(nn.Module):
    """Slower in float32, or under autocast, by far more than a machine's noise."""

    def __init__(self, slow_in_bf16):
        super().__init__()
        self.linear = nn.Linear(30, 1)
        self.dropout = nn.Dropout(0.5)
        self.slow_in_bf16 = slow_in_bf16
        self.calls = []

    def forward(self, x):
        bf16 = torch.is_autocast_enabled("cpu")
        self.calls.append((bf16, len(x)))
        time.sleep(0.05 if bf16 == self.slow_in_bf16 else 0)
        return self.dropout(self.linear(x.flatten(1)))


@pytest.mark.parametrize("slow_in_bf16", [False, True])
def test_the_faster_one_is_chosen_and_nothing_is_changed(window_loader, slow_in_bf16):
    model = Sleeping(slow_in_bf16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    chosen = probed(PROBE, model, window_loader(), CPU)
    assert chosen.amp == ("off" if slow_in_bf16 else "bf16")
    assert chosen == PROBE.model_copy(update={"amp": chosen.amp})
    assert torch.equal(torch.get_rng_state(), random)
    assert model.calls == []
    assert all(p.grad is None for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("amp", "device", "expected"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("bf16", "cpu", True),
        ("off", "cuda", False),
        ("probe", "cuda", True),
    ],
)
def test_what_a_setting_means(amp, device, expected):
    assert use_bf16(TrainConfig(amp=amp), torch.device(device)) is expected


def test_a_trainer_names_what_is_missing(encoder, window_loader):
    with pytest.raises(ValueError, match=r"amp: .*use probed"):
        Trainer(encoder(), window_loader(), PROBE, "cpu")


def test_a_resumed_run_keeps_the_answer(tmp_path, tiny_config):
    config = tiny_config("train.amp=probe")
    train(config, load_bars("synthetic:1500"), CPU, max_steps=1, checkpoints=tmp_path)
    path = tmp_path / "last.pt"
    content = read_checkpoint(path)
    first = content["config"]["train"]["amp"]
    assert first in ("bf16", "off")
    other = {"bf16": "off", "off": "bf16"}[first]
    content["config"]["train"]["amp"] = other
    torch.save(content, path)
    train(config, load_bars("synthetic:1500"), CPU, max_steps=2, checkpoints=tmp_path, resume=True)
    assert read_checkpoint(path)["config"]["train"]["amp"] == other

"""Forward and backward of one batch: the plain encoder, and ours in micro-batches."""

import pytest
import torch
from torch import nn

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import load_config
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.step import CPU_MICRO_BATCH

FEATURES, BATCH = 55, 512


@pytest.fixture(scope="module")
def sides():
    config = load_config("report")
    torch.manual_seed(0)
    before = TFATransformer(FEATURES, config.model)
    after = WindowEncoder(FEATURES, config.model)
    after.load_state_dict(before.state_dict())
    x = torch.randn(BATCH, config.data.window, FEATURES)
    y = torch.randint(0, 2, (BATCH, 1)).float()
    criterion = nn.BCEWithLogitsLoss()

    def step_before():
        before.zero_grad(set_to_none=True)
        criterion(before(x), y).backward()

    def step_after():
        after.zero_grad(set_to_none=True)
        for x_part, y_part in zip(x.split(CPU_MICRO_BATCH), y.split(CPU_MICRO_BATCH), strict=True):
            (criterion(after(x_part), y_part) * (len(x_part) / BATCH)).backward()

    step_before()
    step_after()
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(
            after.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-6
        )
    return {"before": step_before, "after": step_after}


@pytest.mark.parametrize("impl", ["before", "after"])
def test_forward_backward(measure, sides, impl):
    measure(sides, impl, rounds=10)

"""Forward and backward of one batch: the plain encoder, and ours in micro-batches."""

import pytest
import torch
from torch import nn

from benchmarks.sizes import current
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import load_config
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.step import CPU_MICRO_BATCH

FEATURES, BATCH = 55, current().step


def forward_backward(model_class, config, micro_batch):
    """A function that runs one batch, and its model."""
    torch.manual_seed(0)
    model = model_class(FEATURES, config.model)
    x = torch.randn(BATCH, config.data.window, FEATURES)
    y = torch.randint(0, 2, (BATCH, 1)).float()
    criterion = nn.BCEWithLogitsLoss()

    def step():
        model.zero_grad(set_to_none=True)
        for x_part, y_part in zip(x.split(micro_batch), y.split(micro_batch), strict=True):
            (criterion(model(x_part), y_part) * (len(x_part) / BATCH)).backward()

    return step, model


@pytest.fixture(scope="module")
def sides():
    config = load_config("report")
    step_before, before = forward_backward(TFATransformer, config, BATCH)
    step_after, after = forward_backward(WindowEncoder, config, CPU_MICRO_BATCH)
    step_before()
    step_after()
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(
            after.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-6
        )
    return {"before": step_before, "after": step_after}


@pytest.fixture(scope="module")
def tuned_sides():
    return {
        "before": forward_backward(TFATransformer, load_config("report"), BATCH)[0],
        "after": forward_backward(WindowEncoder, load_config("tuned"), CPU_MICRO_BATCH)[0],
    }


def test_forward_backward(measure, sides, impl):
    measure(sides, impl, rounds=10, samples=BATCH, flops=True)


def test_forward_backward_tuned_after_report_before(measure, tuned_sides, impl):
    measure(tuned_sides, impl, rounds=10, samples=BATCH, flops=True)

"""Forward and backward of one batch: the plain encoder, and ours in micro-batches."""

import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import load_config
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.step import CPU_MICRO_BATCH

FEATURES, BATCH = 55, 512


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


@pytest.mark.parametrize("impl", ["before", "after"])
def test_forward_backward(measure, sides, impl):
    measure(sides, impl, rounds=10)


@pytest.mark.parametrize("impl", ["before", "after"])
def test_forward_backward_tuned_after_report_before(measure, tuned_sides, impl):
    measure(tuned_sides, impl, rounds=10)


def test_gemm_efficiency(sides, capsys):
    """Arithmetic of matrix products per second, as a share of a large product's."""
    with FlopCounterMode(display=False) as counter:
        sides["after"]()
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    shares = []
    for _ in range(9):
        peak = 2 * 2048**3 / timed(lambda: torch.mm(a, b))
        shares.append(counter.get_total_flops() / timed(sides["after"]) / peak)
    with capsys.disabled():
        print(
            f"\nreport config, forward and backward: {sorted(shares)[4]:.0%} of the measured "
            f"GEMM peak ({min(shares):.0%} to {max(shares):.0%}), which is last {peak / 1e9:.0f} "
            "GFLOP/s"
        )


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

"""Forward and backward of one batch: the plain encoder, and ours in micro-batches."""

import shutil
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.sizes import current
from benchmarks.training_peers import PEERS, missing, stock_loader
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.step import CPU_MICRO_BATCH, make_step

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


@pytest.mark.row("forward and backward")
def test_forward_backward(measure, sides, impl):
    measure(sides, impl, rounds=10, samples=BATCH, flops=True)


@pytest.mark.row("forward and backward, smaller model after")
def test_forward_backward_tuned_after_report_before(measure, tuned_sides, impl):
    measure(tuned_sides, impl, rounds=10, samples=BATCH, flops=True)


@pytest.mark.peers
@pytest.mark.parametrize("peer", PEERS)
def test_training_peers(versus, installed, peer):
    """One optimizer step: the report's model under another library's loop, and our step."""
    if (package := missing(peer)) is not None:
        installed(f"{peer}, a step", package)
    if peer == "torch.compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile: there is no g++")
    config = load_config("report")
    window = config.data.window
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20 * BATCH, FEATURES), dtype=np.float32)
    y = (rng.random(len(X)) > 0.5).astype(np.float32)
    torch.manual_seed(0)
    theirs = PEERS[peer](
        TFATransformer(FEATURES, config.model),
        stock_loader(X, y, window, BATCH, "cpu"),
        config.train,
        "cpu",
    )
    model = WindowEncoder(FEATURES, config.model)
    loader = WindowLoader(X, y, window=window, batch_size=BATCH, shuffle=True)
    step = make_step(model, make_optimizer(model), loader, clip_norm=config.train.clip_norm)
    ours = chain.from_iterable(map(step.epoch, repeat(0)))
    versus(f"{peer}, a step", lambda: next(theirs), lambda: next(ours))

"""Validation figures against counting by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.config import TrainConfig
from tfa_perf.train.loop import evaluate
from tfa_perf.train.metrics import validation


def auc_by_pairs(logits, labels):
    wins = [
        (a > b) + (a == b) / 2
        for a in logits[labels == 1].tolist()
        for b in logits[labels == 0].tolist()
    ]
    return sum(wins) / len(wins)


def calibration_by_bins(logits, labels):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    total = 0.0
    for low in range(15):
        inside = (p > low / 15) & (p <= (low + 1) / 15)
        if inside.any():
            total += abs(labels[inside].mean() - p[inside].mean()) * inside.sum()
    return total / len(p)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 80),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    ties=st.booleans(),
)
def test_figures_equal_counting(seed, n, scale, ties):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(n) * scale).astype(np.float32)
    if ties:
        logits = np.round(logits)
    labels = rng.integers(0, 2, n).astype(np.float32)
    labels[:2] = 0, 1
    result = validation(torch.from_numpy(logits), torch.from_numpy(labels))
    z = logits.astype(np.float64)
    loss = np.mean(np.logaddexp(0, z) - z * labels)
    assert result.loss == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert result.auc == pytest.approx(auc_by_pairs(logits, labels), abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200))
def test_calibration_equals_counting(seed, n):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal(n).astype(np.float32)
    labels = rng.integers(0, 2, n).astype(np.float32)
    result = validation(torch.from_numpy(logits), torch.from_numpy(labels))
    assert result.calibration_error == pytest.approx(calibration_by_bins(logits, labels), abs=1e-4)


def test_large_logits_are_ranked_where_their_probabilities_tie():
    logits = torch.tensor([90.0, 91.0, 92.0, 93.0])
    assert validation(logits, torch.tensor([0.0, 1.0, 0.0, 1.0])).auc == 0.75


def test_one_label_alone_has_no_auc_and_nan_logits_no_figures():
    assert math.isnan(validation(torch.randn(5), torch.ones(5)).auc)
    broken = validation(torch.tensor([0.0, math.nan]), torch.tensor([0.0, 1.0]))
    assert all(map(math.isnan, broken))


def test_a_pass_over_batches_is_one_over_all_windows(encoder, window_loader):
    model = encoder()
    one, many = (
        evaluate(model, window_loader(batch_size=size), TrainConfig(), "cpu") for size in (1000, 7)
    )
    assert one == pytest.approx(many, abs=1e-4)
    assert one.auc != 0.5


def test_the_mode_is_restored_after_an_error(encoder):
    model = encoder()
    with pytest.raises(RuntimeError):
        evaluate(model, [(torch.zeros(2, 6, 4), torch.zeros(2, 1))], TrainConfig(), "cpu")
    assert model.training
    with pytest.raises(ValueError, match="no window to validate"):
        evaluate(model, [], TrainConfig(), "cpu")

"""The default criterion: torch's definition, on a CUDA device by one kernel."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from tfa_perf.train import bce
from tfa_perf.train.bce import BinaryCrossEntropy

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def drawn(count):
    """Logits, large ones among them, labels of which a third is neither 0 nor 1, and weights."""
    logits = torch.randn(count, 1) * torch.tensor([0.1, 3.0, 40.0])[torch.arange(count) % 3, None]
    y = torch.rand(count, 1)
    y = torch.where(torch.arange(count)[:, None] % 2 > 0, y.round(), y)
    return logits, y, torch.rand(count, 1)


def by_torch(logits, y, weight, pos_weight):
    losses = binary_cross_entropy_with_logits(logits, y, reduction="none", pos_weight=pos_weight)
    return (losses * weight).sum()


def results(compute, logits):
    """Three times the sum, and the gradient of that."""
    logits = logits.detach().clone().requires_grad_()
    total = compute(logits) * 3
    total.backward()
    return total.detach(), logits.grad


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("count", [1, 7, 1024, 5000])
@pytest.mark.parametrize("pos_weight", [None, 2.5])
def test_sum_and_gradient_are_those_of_float64(device, count, pos_weight):
    given = [t.to(device) for t in drawn(count)]
    scalar = None if pos_weight is None else torch.tensor(pos_weight, device=device)
    own = BinaryCrossEntropy(scalar)
    total, gradient = results(lambda z: own.weighted_sum(z, *given[1:]), given[0])
    exact = [t.double() for t in given]
    double = None if scalar is None else scalar.double()
    want, of_logits = results(lambda z: by_torch(z, *exact[1:], double), exact[0])
    torch.testing.assert_close(total.double(), want, rtol=5e-6, atol=0)
    torch.testing.assert_close(gradient.double(), of_logits, rtol=1e-5, atol=1e-6)


@needs_cuda
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("size", [16.0, 17.5, 30.0, 80.0])
def test_small_losses_keep_their_digits(label, size):
    logits = torch.tensor([[size if label else -size]], device="cuda")
    one = torch.ones_like(logits)
    got = BinaryCrossEntropy().weighted_sum(logits, one * label, one)
    want = softplus(torch.tensor(-size, dtype=torch.float64, device="cuda"))
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=0)


@needs_cuda
def test_a_logit_that_is_no_number_shows():
    logits, y, weight = (t.cuda() for t in drawn(2000))
    logits[1500] = torch.nan
    total, gradient = results(lambda z: BinaryCrossEntropy().weighted_sum(z, y, weight), logits)
    assert total.isnan()
    assert gradient.isnan().flatten().nonzero().tolist() == [[1500]]


@needs_cuda
def test_the_kernel_takes_what_it_can_and_nothing_else(monkeypatch):
    used = []
    apply = bce._WeightedSum.apply
    monkeypatch.setattr(bce._WeightedSum, "apply", lambda *a: used.append(1) or apply(*a))

    def taken(logits, y, weight, pos_weight=None):
        used.clear()
        want = by_torch(logits, y, weight, pos_weight)
        got = BinaryCrossEntropy(pos_weight).weighted_sum(logits, y, weight)
        torch.testing.assert_close(got, want)
        return bool(used)

    logits, y, weight = (t.cuda() for t in drawn(10))
    assert taken(logits, y, weight)
    assert taken(logits, y, weight, torch.tensor([2.0], device="cuda"))
    assert not taken(logits.double(), y.double(), weight.double())
    assert not taken(logits, y.requires_grad_(), weight)
    assert not taken(logits, y.detach(), weight.repeat(1, 2)[:, :1])
    assert not taken(*(t.cuda() for t in drawn(bce.MOST + 1)))

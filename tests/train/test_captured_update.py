"""Clipping and AdamW as two kernels against torch's own, on a CUDA device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tfa_perf.train import captured_update
from tfa_perf.train.captured_update import ClippedAdamW

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPES = [(3, 7), (50, 70), (1,), (2049,), (33,)]


def parameters():
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape).cuda()) for shape in SHAPES]


def optimizer(of, **options):
    groups = [
        {"params": of[:3], "weight_decay": 0.1, "betas": (0.8, 0.95)},
        {"params": of[3:], "eps": 1e-4},
    ]
    rate = torch.tensor(1e-2, device="cuda")
    return torch.optim.AdamW(groups, lr=rate, capturable=True, fused=True, **options)


def give_gradients(step, *several):
    torch.manual_seed(step)
    for together in zip(*several, strict=True):
        given = torch.randn(together[0].shape).cuda() * 10 ** (step % 5 - 2)
        for p in together:
            p.grad = given.clone()


@pytest.mark.parametrize("clip_norm", [None, 1.0, 1e6])
def test_it_does_what_torch_does(clip_norm):
    theirs, ours = parameters(), parameters()
    reference, own = optimizer(theirs), optimizer(ours)
    kernels = ClippedAdamW(own, ours, clip_norm)
    for step in range(30):
        give_gradients(step, theirs, ours)
        if step == 7:
            theirs[2].grad = ours[2].grad = None
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(theirs, clip_norm)
        reference.step()
        if step == 0:
            # It has no state yet: the first step is the optimizer's own.
            assert not kernels.fits()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(ours, clip_norm)
            own.step()
        else:
            assert kernels.fits()
            kernels.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            if b.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)
            for name, value in reference.state[b].items():
                # Sums of numbers of either sign: rounding is that of the largest.
                largest = float(value.abs().max())
                torch.testing.assert_close(
                    own.state[a][name], value, rtol=1e-5, atol=1e-6 * largest
                )


def test_steps_of_one_graph_have_gradients_and_rates_of_their_own():
    theirs, ours = parameters(), parameters()
    reference, own = optimizer(theirs), optimizer(ours)
    kernels = ClippedAdamW(own, ours, 1.0)
    # As far apart as a feed has them: kernels are chosen by how an address is aligned.
    rates = torch.zeros((3, 32), device="cuda")[:, 0]
    rates.copy_(torch.tensor([1e-2, 1e-4, 3e-2]))
    give_gradients(0, theirs, ours)
    reference.step()
    own.step()
    give_gradients(1, theirs, ours)
    nn.utils.clip_grad_norm_(theirs, 1.0)
    reference.step()
    assert kernels.fits()
    kernels.step()
    torch.manual_seed(3)
    given = [[torch.randn(shape).cuda() for shape in SHAPES] for _ in range(3)]
    tables = kernels.make_tables(3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i, gradients in enumerate(given):
            for group in own.param_groups:
                group["lr"] = rates[i]
            own.zero_grad(set_to_none=True)
            for p, gradient in zip(ours, gradients, strict=True):
                p.grad = gradient.clone()
            kernels.step()
    kernels.fill_tables()
    assert len({table.data_ptr() for table in tables}) == 3
    for _ in range(2):
        graph.replay()
        for i, gradients in enumerate(given):
            for group in reference.param_groups:
                group["lr"].fill_(rates[i])
            for p, gradient in zip(theirs, gradients, strict=True):
                p.grad = gradient.clone()
            nn.utils.clip_grad_norm_(theirs, 1.0)
            reference.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)
            assert own.state[a]["step"] == reference.state[b]["step"]


def test_a_gradient_that_is_no_number_shows_everywhere():
    own = parameters()
    made = optimizer(own)
    give_gradients(0, own)
    made.step()
    give_gradients(1, own)
    own[3].grad[5] = torch.nan
    ClippedAdamW(made, own, 1.0).step()
    assert all(p.isnan().all() for p in own)


@pytest.mark.parametrize("option", ["amsgrad", "maximize"])
def test_other_options_are_torchs(option):
    own = parameters()
    made = optimizer(own, **{option: True})
    give_gradients(0, own)
    made.step()
    assert not ClippedAdamW(made, own, 1.0).fits()


def test_what_it_cannot_take_is_torchs(monkeypatch):
    own = parameters()
    made = optimizer(own)
    give_gradients(0, own)
    made.step()
    assert ClippedAdamW(made, own, 1.0).fits()
    # The norm would leave out a parameter that the optimizer does not have.
    other = nn.Parameter(torch.zeros(2, device="cuda"))
    other.grad = torch.ones_like(other)
    assert not ClippedAdamW(made, [*own, other], 1.0).fits()
    monkeypatch.setattr(captured_update, "MOST", 100)
    assert not ClippedAdamW(made, own, 1.0).fits()
    monkeypatch.undo()
    own[1].grad = own[1].grad.t().contiguous().t()
    assert not ClippedAdamW(made, own, 1.0).fits()
    own[1].grad = own[1].grad.contiguous()
    made.param_groups[0]["betas"] = (0.0, 0.9)
    assert not ClippedAdamW(made, own, 1.0).fits()
    adam = torch.optim.Adam(own, lr=torch.tensor(1e-2, device="cuda"), capturable=True)
    adam.step()
    assert not ClippedAdamW(adam, own, 1.0).fits()

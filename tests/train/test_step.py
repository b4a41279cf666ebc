"""Kinds of steps against torch written out plainly, and against each other, on the CPU."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tfa_perf.train.fixed_shape import FixedShapeStep
from tfa_perf.train.optimizer import make_optimizer, set_lr
from tfa_perf.train.step import make_step
from tfa_perf.train.warm_up import restored


def rate(step):
    return 3e-3 * (0.6 + 0.4 * math.cos(step / 7))


def run_plain(model, loader, *, accumulation, clip_norm, epochs):
    """Accumulated batches as one batch, by torch alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01)
    losses = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        batches = [(x.clone(), y.clone()) for x, y in loader]
        for first in range(0, len(batches), accumulation):
            x, y = map(torch.cat, zip(*batches[first : first + accumulation], strict=True))
            for group in optimizer.param_groups:
                group["lr"] = rate(len(losses))
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
            loss.backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            losses.append((len(x), loss.item()))
    return losses


def run(step, *, epochs):
    losses = []
    for epoch in range(epochs):
        step.loader.set_epoch(epoch)
        set_lr(step.optimizer, rate(len(losses)))
        for windows in step.epoch():
            losses.append((windows, step.loss))
            set_lr(step.optimizer, rate(len(losses)))
    return [(windows, loss.item()) for windows, loss in losses]


def make_fixed(model, optimizer, loader, **options):
    """The body of a graph step, run without a graph."""
    step = make_step(model, optimizer, loader, **options)
    return FixedShapeStep(
        model,
        optimizer,
        loader,
        criterion=step._criterion,
        clip_norm=options.get("clip_norm"),
        accumulation=options.get("accumulation", 1),
        micro_batch=options.get("micro_batch"),
        bf16=False,
        compile=False,
    )


@pytest.mark.parametrize("make", [make_step, make_fixed])
@pytest.mark.parametrize(
    ("accumulation", "micro_batch", "clip_norm"), [(1, None, 0.05), (3, 7, None), (2, 500, 0.05)]
)
def test_steps_equal_plain_torch(
    encoder, window_loader, same_function, make, accumulation, micro_batch, clip_norm
):
    loader = window_loader(shuffle=True)
    plain, ours = encoder(), encoder()
    expected = run_plain(plain, loader, accumulation=accumulation, clip_norm=clip_norm, epochs=3)
    step = make(
        ours,
        make_optimizer(ours),
        loader,
        accumulation=accumulation,
        micro_batch=micro_batch,
        clip_norm=clip_norm,
    )
    losses = run(step, epochs=3)
    assert [n for n, _ in losses] == [n for n, _ in expected]
    assert [v for _, v in losses] == pytest.approx([v for _, v in expected], rel=1e-3)
    assert losses[0][1] == pytest.approx(expected[0][1], rel=1e-6)
    same_function(plain, ours)


@pytest.mark.parametrize("make", [make_step, make_fixed])
def test_mean_loss_weighs_steps_by_their_windows_and_starts_anew(encoder, window_loader, make):
    model = encoder()
    step = make(model, make_optimizer(model), window_loader(rows=105))
    losses = run(step, epochs=1)
    assert [n for n, _ in losses] == [32, 32, 32, 4]
    assert step.mean_loss() == pytest.approx(sum(n * v for n, v in losses) / 100, rel=1e-5)
    with pytest.raises(RuntimeError, match="no step"):
        step.mean_loss()
    again = run(step, epochs=1)
    assert step.mean_loss() == pytest.approx(sum(n * v for n, v in again) / 100, rel=1e-5)


def test_a_kept_loss_does_not_change(encoder, window_loader):
    model = encoder()
    step = make_step(model, make_optimizer(model), window_loader())
    passes = step.epoch()
    next(passes)
    first = step.loss
    value = first.item()
    next(passes)
    assert first.item() == value != step.loss.item()


def test_a_stock_data_loader_and_a_criterion_of_ones_own(encoder, window_loader):
    batches = [(x.clone(), y.clone()) for x, y in window_loader(rows=105)]
    x, y = map(torch.cat, zip(*batches, strict=True))

    def criterion(logits, labels):
        return nn.functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="none", pos_weight=torch.tensor(3.0)
        )

    losses = []
    for loader in (batches, DataLoader(TensorDataset(x, y), batch_size=32)):
        for make in (make_step, make_fixed):
            model = encoder()
            step = make(model, make_optimizer(model), loader, criterion=criterion)
            losses.append([step.loss.item() for _ in step.epoch()])
    with torch.no_grad():
        expected = criterion(encoder()(batches[0][0]), batches[0][1]).mean().item()
    assert losses[0][0] == pytest.approx(expected, rel=1e-6)
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-5)


def test_a_larger_batch_than_before_gets_room(encoder, window_loader):
    batches = [(x.clone(), y.clone()) for x, y in window_loader(rows=105)]
    grown = [(x[:10], y[:10]) for x, y in batches[:1]] + batches
    losses = []
    for make in (make_step, make_fixed):
        model = encoder()
        step = make(model, make_optimizer(model), grown)
        losses.append([step.loss.item() for _ in step.epoch()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_padding_refuses_batch_normalisation(window_loader):
    def make_model():
        return nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    model = make_model()
    step = make_fixed(model, make_optimizer(model), window_loader(rows=105))
    with pytest.raises(ValueError, match=r"BatchNorm1d.*drop_last=True"):
        list(step.epoch())
    model = make_model()
    step = make_fixed(model, make_optimizer(model), window_loader(rows=105, drop_last=True))
    assert list(step.epoch()) == [32, 32, 32]


def test_compiled_steps_equal_eager_ones(window_loader):
    losses, models = [], []
    for compile in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(30, 8), nn.GELU(), nn.Linear(8, 1))
        step = make_step(
            model, make_optimizer(model), window_loader(rows=105), compile=compile, clip_norm=1.0
        )
        losses.append(run(step, epochs=2))
        models.append(model)
    assert [v for _, v in losses[1]] == pytest.approx([v for _, v in losses[0]], rel=1e-4)
    torch.testing.assert_close(models[1].state_dict(), models[0].state_dict())


def test_frozen_parameters_stay(encoder, window_loader):
    model = encoder()
    model.proj.requires_grad_(False)
    frozen = model.proj.weight.clone()
    head = model.head.weight.clone()
    step = make_step(model, make_optimizer(model), window_loader(), clip_norm=1.0)
    list(step.epoch())
    assert torch.equal(model.proj.weight, frozen)
    assert not torch.equal(model.head.weight, head)


@pytest.mark.parametrize("stepped_before", [False, True])
def test_warm_up_leaves_no_trace(encoder, window_loader, stepped_before):
    model = encoder(dropout=0.2)
    optimizer = make_optimizer(model)
    step = make_step(model, optimizer, window_loader())
    if stepped_before:
        list(step.epoch())
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    addresses = [p.data_ptr() for p in model.parameters()]
    random = torch.get_rng_state()
    with restored(model, optimizer):
        list(step.epoch())
        changed = copy.deepcopy(model.state_dict())
    assert not torch.equal(changed["head.weight"], before[0]["head.weight"])
    assert torch.equal(torch.get_rng_state(), random)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    torch.testing.assert_close(model.state_dict(), before[0], rtol=0, atol=0)
    state = optimizer.state_dict()["state"]
    if stepped_before:
        torch.testing.assert_close(state, before[1], rtol=0, atol=0)
    else:
        assert all(not value.any() for s in state.values() for value in s.values())


def test_warm_up_restores_after_an_error(encoder, window_loader):
    model = encoder()
    optimizer = make_optimizer(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), restored(model, optimizer):
        list(make_step(model, optimizer, window_loader()).epoch())
        raise KeyboardInterrupt
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accumulation": 0}, "accumulation.*from 1.*0"),
        ({"micro_batch": 2.5}, "micro_batch.*2.5"),
        ({"graph_steps": 0}, "graph_steps.*from 1.*0"),
        ({"graph_steps": None}, "graph_steps.*from 1.*None"),
        ({"clip_norm": 0.0}, "clip_norm.*0.0"),
        ({"graph": True}, "graph.*CUDA.*cpu.*graph=False"),
    ],
)
def test_arguments_that_do_not_fit_are_named(encoder, window_loader, options, words):
    model = encoder()
    with pytest.raises(ValueError, match=words):
        make_step(model, make_optimizer(model), window_loader(), **options)


def test_a_model_without_parameters_to_fit_is_refused(encoder, window_loader):
    model = encoder().requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        make_step(model, torch.optim.SGD([torch.zeros(1)], lr=1.0), window_loader())

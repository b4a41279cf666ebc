"""Captured steps against eager ones, on a CUDA device."""

import copy
import logging
import math

import pytest
import torch
from torch import nn

from tfa_perf.train.optimizer import make_optimizer, set_lr
from tfa_perf.train.step import make_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def rate(step):
    return 2e-3 * (0.6 + 0.4 * math.cos(step / 7))


def run(step, steps):
    """``steps`` optimizer steps over as many epochs as it takes, the learning rate of each new."""
    losses = []
    epoch = 0
    while len(losses) < steps:
        step.loader.set_epoch(epoch)
        epoch += 1
        set_lr(step.optimizer, rate(len(losses)))
        for windows in step.epoch():
            losses.append((windows, step.loss))
            if len(losses) == steps:
                break
            set_lr(step.optimizer, rate(len(losses)))
    return [(windows, loss.item()) for windows, loss in losses]


@pytest.fixture
def pair(encoder, window_loader):
    """``pair(..., **options)``: an eager and a captured step from the same start."""

    def make(*, rows=300, loader_options=(), model_options=(), **options):
        steps = []
        for graph in (False, True):
            model = encoder(**dict(model_options)).cuda()
            loader = window_loader(
                rows=rows, **{"device": "cuda", "shuffle": True, **dict(loader_options)}
            )
            steps.append(make_step(model, make_optimizer(model), loader, graph=graph, **options))
        return steps

    return make


def close(one, other, rel, absolute=0.0):
    assert [n for n, _ in one] == [n for n, _ in other]
    assert [v for _, v in one] == pytest.approx([v for _, v in other], rel=rel, abs=absolute)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.1},
        {"accumulation": 3, "micro_batch": 20},
        {"clip_norm": 0.1, "compile": True},
        {"model_options": {"positions": "rotary"}},
    ],
    ids=str,
)
def test_200_steps_with_a_changing_learning_rate_agree(pair, same_function, options):
    eager, graph = pair(**options)
    close(run(eager, 200), run(graph, 200), rel=2e-3)
    assert graph.mean_loss() == pytest.approx(eager.mean_loss(), rel=1e-4)
    same_function(eager.model, graph.model, atol=5e-3)
    state = graph.optimizer.state.values()
    assert {s["step"].item() for s in state} == {200}


def test_bf16_agrees_within_its_precision(pair):
    eager, graph = pair(bf16=True, clip_norm=1.0)
    close(run(eager, 100), run(graph, 100), rel=5e-2, absolute=2**-6)


def test_one_step_is_the_eager_step_and_leaves_its_gradients(pair):
    eager, graph = pair(clip_norm=1e-3)
    close(run(eager, 1), run(graph, 1), rel=1e-6)
    for (name, a), b in zip(eager.model.named_parameters(), graph.model.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-8, msg=name)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_no_step_waits_for_the_device(pair, graph, accumulation):
    step = pair(clip_norm=1.0, accumulation=accumulation)[graph]
    list(step.epoch())
    step.loader.set_epoch(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        windows = 0
        for i, n in enumerate(step.epoch()):
            windows += n
            set_lr(step.optimizer, rate(i))
            kept = step.loss
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert windows == 295
    assert math.isfinite(kept.item())


def test_capture_leaves_random_numbers_alone(pair):
    _, graph = pair(clip_norm=1.0)
    host, device = torch.get_rng_state(), torch.cuda.get_rng_state()
    next(graph.epoch())
    assert torch.equal(torch.get_rng_state(), host)
    assert torch.equal(torch.cuda.get_rng_state(), device)


def test_dropout_is_new_in_every_replay_and_repeats_with_the_seed(encoder, window_loader):
    losses = []
    for _ in range(2):
        model = encoder(dropout=0.5).cuda()
        step = make_step(
            model,
            make_optimizer(model, lr=1e-12, weight_decay=0.0),
            window_loader(rows=37, device="cuda"),
            graph=True,
        )
        torch.cuda.manual_seed(7)
        losses.append([step.loss.item() for _ in range(5) for _ in step.epoch()])
    assert len(set(losses[0])) == 5
    assert losses[0] == losses[1]


def test_a_torch_scheduler_drives_the_captured_rate(pair):
    losses = []
    for step in pair():
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(step.optimizer, T_max=20)
        record = []
        for epoch in range(3):
            step.loader.set_epoch(epoch)
            for windows in step.epoch():
                record.append((windows, step.loss))
                scheduler.step()
        losses.append([(n, v.item()) for n, v in record])
    close(*losses, rel=1e-3)


def test_a_rate_put_in_as_a_number_counts(pair):
    losses = []
    for step in pair():
        run(step, 2)
        for group in step.optimizer.param_groups:
            group["lr"] = 0.05
        losses.append([(n, step.loss.item()) for n in step.epoch()])
    close(*losses, rel=1e-3)


def saved_and_loaded(step):
    state = copy.deepcopy(step.optimizer.state_dict())
    for values in state["state"].values():
        values["exp_avg"].mul_(0.5)
    step.optimizer.load_state_dict(state)


def moved(step):
    step.model.cpu()
    hold = [torch.empty_like(p, device="cuda") for p in step.model.parameters()]
    step.model.cuda()
    del hold


@pytest.mark.parametrize("change", [saved_and_loaded, moved])
def test_new_addresses_are_captured_again(pair, caplog, change):
    caplog.set_level(logging.INFO, logger="tfa_perf.train.graph")
    losses = []
    for step in pair():
        run(step, 4)
        change(step)
        losses.append(run(step, 30))
    close(*losses, rel=1e-3)
    assert caplog.text.count("capturing the step again") == 1


def test_the_training_mode_is_captured_again(pair):
    _, graph = pair(model_options={"dropout": 0.5})
    run(graph, 2)
    graph.model.eval()
    set_lr(graph.optimizer, 1e-12)
    first, second = ([graph.loss.item() for _ in graph.epoch()] for _ in range(2))
    assert second == pytest.approx(first, rel=1e-5)


def test_batches_of_any_loader_and_new_shapes(encoder, window_loader, caplog):
    caplog.set_level(logging.INFO, logger="tfa_perf.train.graph")
    batches = [(x.clone(), y.clone()) for x, y in window_loader(rows=105)]
    shorter = [(x[:, 2:], y) for x, y in batches]
    losses = []
    for graph in (False, True):
        model = encoder().cuda()
        step = make_step(model, make_optimizer(model), batches + shorter, graph=graph)
        losses.append([(n, step.loss.item()) for n in step.epoch()])
    close(*losses, rel=1e-3)
    assert "sizes changed" in caplog.text


def test_graphs_of_torch_compile_beside_it_leave_its_memory_alone(pair, encoder):
    # Large enough for matrix products that need a workspace.
    shape = {"d_model": 128, "nhead": 4, "ffn_hidden": 256}
    options = {"rows": 5000, "loader_options": {"batch_size": 1024}, "model_options": shape}
    eager, graph = pair(bf16=True, **options)
    next(graph.epoch())
    next(eager.epoch())
    other = torch.compile(encoder(**shape).cuda(), mode="reduce-overhead")
    x = torch.randn(1024, 6, 5, device="cuda")
    for _ in range(4):
        with torch.autocast("cuda", torch.bfloat16):
            other(x).sum().backward()
        other.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    # The graph first: eager steps may take the same addresses again and hide what is missing.
    captured = run(graph, 20)
    close(run(eager, 20), captured, rel=5e-2)


def test_a_constant_of_the_optimizer_that_changes_is_refused(pair):
    _, graph = pair()
    run(graph, 2)
    graph.optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    with pytest.raises(RuntimeError, match=r"betas.*make a new step"):
        run(graph, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ],
)
def test_an_optimizer_that_cannot_be_captured_is_named(encoder, window_loader, make):
    model = encoder().cuda()
    with pytest.raises(ValueError, match=r"optimizer:.*capturable=True.*make_optimizer"):
        make_step(model, make(model.parameters()), window_loader(device="cuda"), graph=True)


class Reading(nn.Module):
    """A model that reads a value from the device in every forward."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(30, 1)

    def forward(self, x):
        return self.linear(x.flatten(1)) * (1.0 if x.sum().item() > 0 else 0.5)


def test_a_model_that_reads_from_the_device_is_refused_unchanged(window_loader):
    model = Reading().cuda()
    before = copy.deepcopy(model.state_dict())
    step = make_step(model, make_optimizer(model), window_loader(device="cuda"), graph=True)
    with pytest.raises(RuntimeError, match=r"(?s)cannot be captured.*graph=False"):
        next(step.epoch())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)

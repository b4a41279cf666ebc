"""Several steps in one CUDA graph against the same steps one by one, on a CUDA device."""

import copy
import logging

import pytest
import torch

from tfa_perf.config import TrainConfig
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.step import make_step
from tfa_perf.train.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Run:
    """A captured step whose rates depend on how many steps were taken, with a record of it."""

    def __init__(self, model, loader, rate, **options):
        self.done, self.yields, self.gradients = 0, [], {}
        self.rate = rate
        optimizer = make_optimizer(model, weight_decay=0.0)
        self.step = make_step(model, optimizer, loader, graph=True, rates=self.rates, **options)

    def rates(self):
        return [self.rate(self.done + i) for i in range(20)]

    def epochs(self, *epochs):
        for epoch in epochs:
            self.step.loader.set_epoch(epoch)
            for windows in self.step.epoch():
                self.done += self.step.taken
                self.yields.append((self.step.taken, windows, self.step.loss))
                self.gradients[self.done] = [
                    p.grad.detach().clone() for p in self.step.model.parameters()
                ]
        return self


def rate(step):
    # So different that one in another's place shows.
    return 4e-3 * 4.0 ** -(step % 3)


@pytest.fixture
def both(encoder, window_loader):
    """``both(graph_steps=4, **options)``: so many steps a graph, and one, from the same start.

    A pass has 10 steps, the last of them padded.
    """

    def make(graph_steps=4, rate=rate, model_options=(), loader_options=(), **options):
        return [
            Run(
                encoder(**dict(model_options)).cuda(),
                window_loader(**{"device": "cuda", "shuffle": True, **dict(loader_options)}),
                rate,
                graph_steps=count,
                **options,
            )
            for count in (graph_steps, 1)
        ]

    return make


def same_losses(several, single, rel=1e-3, absolute=0.0):
    left = iter(single.yields)
    for count, windows, loss in several.yields:
        of_them = [next(left) for _ in range(count)]
        assert windows == sum(n for _, n, _ in of_them)
        mean = sum(n * value.item() for _, n, value in of_them) / windows
        assert loss.item() == pytest.approx(mean, rel=rel, abs=absolute)
    assert next(left, None) is None


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"clip_norm": 0.1}, [4, 4, 1, 1]),
        ({"clip_norm": 0.1, "compile": True}, [4, 4, 1, 1]),
        ({"graph_steps": 10}, [10]),
        ({"graph_steps": 3, "accumulation": 2, "micro_batch": 20}, [3, 1, 1]),
    ],
    ids=str,
)
def test_steps_of_one_graph_are_those_taken_one_by_one(both, same_function, options, taken):
    several, single = (run.epochs(0, 1, 2) for run in both(**options))
    assert [n for n, *_ in several.yields] == taken * 3
    same_losses(several, single)
    assert several.step.mean_loss() == pytest.approx(single.step.mean_loss(), rel=1e-4)
    same_function(several.step.model, single.step.model, atol=5e-3)
    steps = {s["step"].item() for s in several.step.optimizer.state.values()}
    assert steps == {sum(taken) * 3}


def test_bf16_agrees_within_its_precision(both):
    shape = {"d_model": 32, "ffn_hidden": 32}
    runs = both(bf16=True, clip_norm=1.0, compile=True, model_options=shape)
    same_losses(*(run.epochs(0, 1) for run in runs), rel=5e-2, absolute=2**-6)


def test_each_step_of_a_graph_reads_its_own_rate(both, same_function):
    # 0 for most: a step with another's rate goes far.
    rates = [0.0, 0.02, 0.0, 0.002, 0.0]
    several, single = both(graph_steps=5, rate=lambda step: rates[step % 5])
    start = [p.detach().clone() for p in several.step.model.parameters()]
    several.epochs(0)
    single.epochs(0)
    assert [n for n, *_ in several.yields] == [5, 5]
    same_function(several.step.model, single.step.model, atol=1e-3)
    moved = zip(several.step.model.parameters(), start, strict=True)
    assert any((p - before).abs().max() > 0.01 for p, before in moved)


def test_gradients_are_those_of_the_last_step_whichever_graph_it_is_of(both):
    several, single = (run.epochs(0, 1) for run in both(rate=lambda step: 1e-12, clip_norm=1e-3))
    assert list(several.gradients) == [4, 8, 9, 10, 14, 18, 19, 20]
    for done, gradients in several.gradients.items():
        for a, b in zip(gradients, single.gradients[done], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


def test_dropout_is_new_in_each_step_of_a_graph(both):
    # The same windows in every step.
    same = {"shuffle": False, "sampler": list(range(32)) * 4}
    runs = both(rate=lambda step: 1e-12, model_options={"dropout": 0.5}, loader_options=same)
    for run in runs:
        torch.cuda.manual_seed(7)
        run.epochs(0, 0)
    several, single = runs
    assert [n for n, *_ in several.yields] == [4, 4]
    assert len({loss.item() for *_, loss in single.yields}) == 8
    last = [loss.item() for *_, loss in single.yields[4:]]
    assert several.step._step_losses.tolist() == pytest.approx(last, rel=1e-5)


def test_capture_leaves_random_numbers_alone(both):
    several, _ = both(clip_norm=1.0)
    host, device = torch.get_rng_state(), torch.cuda.get_rng_state()
    # Both graphs are captured in a pass.
    several.epochs(0)
    assert torch.equal(torch.get_rng_state(), host)
    assert torch.equal(torch.cuda.get_rng_state(), device)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_nothing_waits_for_the_device(both, accumulation):
    several, _ = both(clip_norm=1.0, accumulation=accumulation)
    several.epochs(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        several.epochs(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(n for _, n, _ in several.yields) == 2 * 295


def test_new_addresses_are_captured_again(both, caplog):
    caplog.set_level(logging.INFO, logger="tfa_perf.train.graph")
    several, single = both(clip_norm=0.1)
    for number, run in enumerate((several, single), 1):
        run.epochs(0)
        state = copy.deepcopy(run.step.optimizer.state_dict())
        for values in state["state"].values():
            values["exp_avg"].mul_(0.5)
        run.step.optimizer.load_state_dict(state)
        run.epochs(1, 2)
        assert caplog.text.count("capturing the step again") == number
    same_losses(several, single)


def test_batches_of_another_loader_come_one_by_one(both):
    several, single = (run.epochs(0) for run in both(loader_options={"device": "cpu"}))
    assert [n for n, *_ in several.yields] == [1] * 10
    same_losses(several, single)


def test_a_trainer_takes_them_between_checkpoints(encoder, window_loader, same_function):
    found = []
    for graph_steps in (4, 1):
        config = TrainConfig(
            epochs=3, lr=3e-3, schedule="cosine", warmup_steps=5, amp="off",
            graph_steps=graph_steps, checkpoint_every=6,
        )  # fmt: skip
        model = encoder().cuda()
        loader = window_loader(device="cuda", shuffle=True)
        trainer = Trainer(model, loader, config, "cuda")
        steps = [s.steps for s in trainer.steps(until=17)]
        # The rest of it in a trainer of its own.
        state = copy.deepcopy(trainer.state_dict())
        model = encoder(seed=5).cuda()
        loader = window_loader(device="cuda", shuffle=True)
        trainer = Trainer(model, loader, config, "cuda")
        trainer.load_state_dict(state)
        steps += [s.steps for s in trainer.steps()]
        found.append((steps, model, trainer.step.mean_loss()))
    (steps, several, loss), (_, single, expected) = found
    assert steps == [4, 1, 1, 4, 1, 1, 4, 1, *[1, 1, 1, 4, 4, 1, 1]]
    assert loss == pytest.approx(expected, rel=1e-3)
    same_function(several, single, atol=5e-3)

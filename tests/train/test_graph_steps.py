"""Steps that are sent and taken at once against the same steps one by one, on the CPU."""

import math

import pytest
import torch
from torch import nn

from tfa_perf.config import TrainConfig
from tfa_perf.train import trainer as trainer_module
from tfa_perf.train.checkpoint import read_checkpoint, write_checkpoint
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.optimizer import make_optimizer, set_lr
from tfa_perf.train.step import make_step
from tfa_perf.train.trainer import Trainer


def rate(step):
    return 3e-3 * (0.6 + 0.4 * math.cos(step / 2))


class Run:
    """Epochs of a step whose rates depend on how many were taken, with a record of its yields."""

    def __init__(self, make, model, loader, ahead=100, **options):
        self.done, self.asked, self.ahead = 0, [], ahead
        self.yields, self.places = [], []
        self.step = make(model, make_optimizer(model), loader, rates=self.rates, **options)

    def rates(self):
        self.asked.append(self.done)
        return [rate(self.done + i) for i in range(self.ahead)]

    def epochs(self, count, skip=0):
        for epoch in range(count):
            self.step.loader.set_epoch(epoch)
            for windows in self.step.epoch(skip):
                self.done += self.step.taken
                self.yields.append((self.step.taken, windows, self.step.loss.item()))
                self.places.append((self.done, self.step.loader.state_dict()["position"]))
        return self


def same_bits(one, other):
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"graph_steps": 4}, [4, 4, 1, 1]),
        ({"graph_steps": 10, "clip_norm": 0.05}, [10]),
        ({"graph_steps": 11}, [1] * 10),
        ({"graph_steps": 3, "accumulation": 2, "micro_batch": 20}, [3, 1, 1]),
    ],
)
def test_they_are_the_steps_that_are_taken_one_by_one(
    encoder, resident_loader, fixed_step, options, taken
):
    runs = []
    for change in ({}, {"graph_steps": 1}):
        torch.manual_seed(0)
        model = encoder(dropout=0.2)
        loader = resident_loader(shuffle=True)
        runs.append(Run(fixed_step, model, loader, **options | change).epochs(2))
    several, single = runs
    assert [n for n, *_ in several.yields] == taken * 2
    assert {n for n, *_ in single.yields} == {1}
    left = iter(single.yields)
    for count, windows, loss in several.yields:
        of_them = [next(left) for _ in range(count)]
        assert windows == sum(n for _, n, _ in of_them)
        mean = sum(n * value for _, n, value in of_them) / windows
        assert loss == pytest.approx(mean, rel=1e-6)
    assert next(left, None) is None
    # Where the loader is tells what was trained on, at every yield.
    assert set(several.places) <= set(single.places)
    assert several.step.losses() == single.step.losses()
    same_bits(several.step.model, single.step.model)
    grads = ([p.grad for p in run.step.model.parameters()] for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_each_step_has_its_own_rate(encoder, resident_loader, fixed_step, same_function):
    models = [encoder(), encoder()]
    several = Run(fixed_step, models[0], resident_loader(), graph_steps=5)
    own = several.step.optimizer.param_groups[0]["lr"]
    several.epochs(2)
    eager = Run(make_step, models[1], resident_loader()).epochs(2)
    assert several.asked == [0, 5, 10, 15]
    assert eager.asked == list(range(20))
    means = [several.step.mean_loss(), eager.step.mean_loss()]
    assert means[0] == pytest.approx(means[1], rel=1e-4)
    same_function(*models)
    assert several.step.optimizer.param_groups[0]["lr"] is own


def test_without_rates_all_have_the_optimizer_s(encoder, resident_loader, fixed_step):
    models = [encoder(), encoder()]
    for model, graph_steps in zip(models, (4, 1), strict=True):
        step = fixed_step(model, make_optimizer(model), resident_loader(), graph_steps=graph_steps)
        done = 0
        set_lr(step.optimizer, rate(0))
        for _ in step.epoch():
            done += step.taken
            if done % 4 == 0:
                set_lr(step.optimizer, rate(done))
    same_bits(*models)


@pytest.mark.parametrize(("ahead", "taken"), [(3, [1] * 10), (4, [4, 4, 1, 1])])
def test_no_more_are_taken_than_there_are_rates(encoder, resident_loader, fixed_step, ahead, taken):
    run = Run(fixed_step, encoder(), resident_loader(), ahead, graph_steps=4).epochs(1)
    assert [n for n, *_ in run.yields] == taken


@pytest.mark.parametrize("graph", [False, True])
def test_no_rate_at_all_is_an_error(encoder, resident_loader, fixed_step, graph):
    run = Run(fixed_step if graph else make_step, encoder(), resident_loader(), 0)
    with pytest.raises(ValueError, match=r"rates:.*returned none"):
        run.epochs(1)


def test_the_loss_of_several_weighs_them_by_their_windows(encoder, resident_loader, fixed_step):
    models = [encoder(), encoder()]
    runs = [
        Run(fixed_step, model, resident_loader(rows=105), graph_steps=graph_steps).epochs(1)
        for model, graph_steps in zip(models, (4, 1), strict=True)
    ]
    ((taken, windows, loss),) = runs[0].yields
    assert (taken, windows) == (4, 100)
    assert [n for _, n, _ in runs[1].yields] == [32, 32, 32, 4]
    assert loss == pytest.approx(sum(n * v for _, n, v in runs[1].yields) / 100, rel=1e-6)
    assert runs[0].step.mean_loss() == pytest.approx(loss, rel=1e-6)


def test_a_pass_that_is_gone_on_with_has_what_is_left(encoder, resident_loader, fixed_step):
    run = Run(fixed_step, encoder(), resident_loader(), graph_steps=4).epochs(1, skip=3)
    assert [n for n, *_ in run.yields] == [4, 1, 1, 1]
    loader = resident_loader()
    next(loader.row_batches())
    loader.load_state_dict(loader.state_dict())
    run = Run(fixed_step, encoder(), loader, graph_steps=4).epochs(1)
    assert [n for n, *_ in run.yields] == [4, 4, 1]


def test_from_other_loaders_and_eagerly_they_come_one_by_one(
    encoder, window_loader, resident_loader, fixed_step
):
    for make, loader in ((fixed_step, window_loader()), (make_step, resident_loader())):
        run = Run(make, encoder(), loader, graph_steps=4).epochs(1)
        assert [n for n, *_ in run.yields] == [1] * 10


def test_padding_among_several_refuses_batch_normalisation(resident_loader, fixed_step):
    for options, graph_steps in (({}, 4), ({"drop_last": True}, 3)):
        model = nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        loader = resident_loader(rows=105, **options)
        step = fixed_step(model, make_optimizer(model), loader, graph_steps=graph_steps)
        if options:
            assert list(step.epoch()) == [96]
        else:
            with pytest.raises(ValueError, match=r"BatchNorm1d.*only 4 are left"):
                list(step.epoch())


CONFIG = TrainConfig(
    epochs=3, accumulation=2, schedule="cosine", warmup_steps=4, lr=3e-3, amp="off", micro_batch=20
)


@pytest.fixture
def trainer(encoder, resident_loader, fixed_step, monkeypatch):
    """``trainer(seed, **changes)``: 10 steps in each of 3 epochs."""
    monkeypatch.setattr(trainer_module, "make_step", fixed_step)

    def make(seed=0, **changes):
        loader = resident_loader(rows=325, batch_size=16, shuffle=True, seed=3)
        config = CONFIG.model_copy(update=changes)
        made = Trainer(encoder(seed, dropout=0.2), loader, config, "cpu")
        torch.manual_seed(11 + seed)
        return made

    return make


def rest_of(trainer):
    return [(s.epoch, s.steps, s.windows, s.loss.item()) for s in trainer.steps()]


def test_a_run_is_the_same_for_any_number_at_once(trainer):
    single = trainer()
    alone = rest_of(single)
    several = trainer(graph_steps=4)
    together = rest_of(several)
    assert [s[:2] for s in together] == [(e, n) for e in range(3) for n in (4, 4, 1, 1)]
    assert [sum(n for _, _, n, _ in found) for found in (alone, together)] == [960, 960]
    assert [s[3] for s in together if s[1] == 1] == [
        s[3] for i, s in enumerate(alone) if i % 10 > 7
    ]
    assert several.done == several.total == single.done == 30
    assert several.step.losses() == single.step.losses()
    same_bits(several.model, single.model)


@pytest.mark.parametrize("yields", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("then", [4, 3, 1])
def test_resumed_between_two_yields_it_goes_on_bit_for_bit(trainer, tmp_path, yields, then):
    whole = trainer()
    alone = rest_of(whole)
    first = trainer(graph_steps=4)
    steps = first.steps()
    taken = sum(next(steps).steps for _ in range(yields))
    state = first.state_dict()
    assert state["done"] == taken
    assert state["taken"] == CONFIG.accumulation * (taken - 10 * state["epoch"])
    write_checkpoint(tmp_path / "last.pt", state)
    second = trainer(seed=99, graph_steps=then)
    second.load_state_dict(read_checkpoint(tmp_path / "last.pt"))
    rest = rest_of(second)
    assert sum(n for _, n, _, _ in rest) == 30 - taken
    assert rest[-1][3] == pytest.approx(alone[-1][3], rel=1e-6)
    same_bits(second.model, whole.model)
    assert second.step.losses() == whole.step.losses()


def test_checkpoints_and_a_given_end_are_between_two(trainer):
    several = trainer(graph_steps=4, checkpoint_every=6)
    assert [s.steps for s in several.steps(until=17)] == [4, 1, 1, 4, 1, 1, 4, 1]
    assert several.done == 17
    assert list(several.steps(until=17)) == []
    several = trainer(graph_steps=4)
    steps = several.steps(until=6)
    assert [next(steps).steps for _ in range(3)] == [4, 1, 1]
    several.until = 10
    assert [s.steps for s in steps] == [4]


@pytest.mark.parametrize("resident", [False, True])
def test_a_run_that_was_ended_goes_on_in_its_pass(trainer, encoder, window_loader, resident):
    def make():
        if resident:
            return trainer(graph_steps=4)
        torch.manual_seed(0)
        return Trainer(encoder(), window_loader(shuffle=True), CONFIG, "cpu")

    whole, cut = make(), make()
    torch.manual_seed(1)
    expected = [s.windows for s in whole.steps()]
    torch.manual_seed(1)
    ends = (0, 2, 5, 10, 11, 100)
    found = [[s.windows for s in cut.steps(until=end)] for end in ends]
    assert sum(map(sum, found)) == sum(expected)
    assert cut.done == whole.done == whole.total
    same_bits(cut.model, whole.model)


@pytest.mark.parametrize("positions", ["none", "learned", "rotary"])
def test_a_model_that_rounds_its_input_gets_it_rounded(
    encoder, resident_loader, fixed_step, positions
):
    class Reads(WindowEncoder):
        """May do with x what it likes."""

        def forward(self, x):
            return super().forward(x)

    runs = []
    for kind, expected in [(WindowEncoder, torch.bfloat16), (Reads, torch.float32)]:
        model = encoder(positions=positions)
        model.__class__ = kind
        seen = []
        model.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].dtype))
        run = Run(fixed_step, model, resident_loader(shuffle=True), graph_steps=4, bf16=True)
        run.epochs(1)
        assert set(seen) == {expected}
        runs.append((run, model))
    (one, first), (other, second) = runs
    assert one.yields == other.yields
    same_bits(first, second)


def test_in_float32_nothing_is_rounded(encoder, resident_loader, fixed_step):
    model, seen = encoder(), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    Run(fixed_step, model, resident_loader()).epochs(1)
    assert set(seen) == {torch.float32}

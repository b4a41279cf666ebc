import math

import pytest
import torch

from tfa_perf.config import TrainConfig
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.optimizer import make_optimizer, set_lr
from tfa_perf.train.schedule import learning_rate


def test_constant_after_a_linear_warm_up():
    config = TrainConfig(lr=0.8, warmup_steps=4)
    rates = [learning_rate(step, 7, config) for step in range(7)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])


def test_cosine_equals_torchs_schedulers_in_sequence():
    config = TrainConfig(lr=0.3, warmup_steps=5, schedule="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    expected = []
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert [learning_rate(5 + i, 25, config) for i in range(20)] == pytest.approx(expected)
    assert learning_rate(25, 25, config) == pytest.approx(0, abs=1e-15)


def test_a_warm_up_longer_than_the_run_never_divides_by_zero():
    config = TrainConfig(lr=1.0, warmup_steps=10, schedule="cosine")
    assert learning_rate(9, 10, config) == 1.0
    assert math.isfinite(learning_rate(10, 10, config))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_set_lr_reaches_every_group_in_place(as_tensor):
    lr = torch.tensor(1.0) if as_tensor else 1.0
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [p]} for p in parameters], lr=lr, fused=True)
    held = [group["lr"] for group in optimizer.param_groups]
    set_lr(optimizer, 0.25)
    for group, before in zip(optimizer.param_groups, held, strict=True):
        assert float(group["lr"]) == 0.25
        assert (group["lr"] is before) == as_tensor


def test_the_optimizer_takes_the_rate_and_the_decay(encoder):
    optimizer = make_optimizer(encoder(), lr=0.02, weight_decay=0.3)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.02, 0.3, True)


def test_early_stopping_counts_values_that_do_not_beat_the_best():
    stopping = EarlyStopping(2)
    seen = [(stopping.update(v), stopping.stop) for v in (3.0, 2.0, 2.0, 1.9, math.nan, 1.9)]
    assert seen == [
        (True, False),
        (True, False),
        (False, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert stopping.best == 1.9


def test_early_stopping_goes_on_where_it_was_and_none_never_stops():
    stopping = EarlyStopping(2)
    stopping.update(1.0)
    stopping.update(1.5)
    other = EarlyStopping(2)
    other.load_state_dict(stopping.state_dict())
    assert not other.update(1.2)
    assert other.stop
    never = EarlyStopping(None)
    assert not any(never.update(1.0 + i) and never.stop for i in range(50))
    assert not never.stop

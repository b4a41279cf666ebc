import io

import pytest
import torch
from rich.console import Console

from tfa_perf.train.progress import StepProgress


def run(losses, log_every):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with StepProgress(len(losses), log_every=log_every, console=console) as progress:
        for windows, loss in enumerate(losses, start=1):
            progress.step(epoch=2, windows=windows, loss=loss)
        mean = progress.mean_loss()
    return mean, screen.getvalue()


def test_mean_weighs_steps_by_their_windows():
    losses = [0.5, 1.5, 0.25]
    mean, screen = run([torch.tensor(v) for v in losses], log_every=2)
    assert mean == pytest.approx((0.5 * 1 + 1.5 * 2 + 0.25 * 3) / 6)
    assert "epoch 3" in screen
    assert "3/3" in screen
    assert f"loss {(0.5 + 3.0) / 3:.5f}" in screen


def test_mean_of_more_steps_than_are_summed_together():
    console = Console(file=io.StringIO())
    with StepProgress(200, log_every=1000, console=console) as progress:
        windows = [8] * 150 + [3] * 49 + [8]
        for i, size in enumerate(windows):
            progress.step(epoch=0, windows=size, loss=torch.tensor(float(i)))
        expected = sum(i * size for i, size in enumerate(windows)) / sum(windows)
        assert progress.mean_loss() == pytest.approx(expected)
        # Reading takes nothing away.
        assert progress.mean_loss() == pytest.approx(expected)


def test_the_loss_is_read_once_per_log_interval(monkeypatch):
    reads = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or item(self))
    run([torch.tensor(1.0)] * 100, log_every=25)
    assert len(reads) == 4 + 1


def test_several_steps_at_once_are_counted_and_logged_as_such(monkeypatch):
    reads = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or item(self))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with StepProgress(24, log_every=6, console=console) as progress:
        seen = []
        for _ in range(6):
            progress.step(epoch=0, windows=40, loss=torch.tensor(1.0), steps=4)
            seen.append(len(reads))
    # After 8, 12, 20 and 24 steps: the first looks from 6, 12, 18 and 24 on.
    assert seen == [0, 1, 2, 2, 3, 4]
    assert "24/24" in screen.getvalue()


def test_reset_starts_a_new_mean():
    console = Console(file=io.StringIO())
    with StepProgress(3, log_every=10, console=console) as progress:
        progress.step(epoch=0, windows=4, loss=torch.tensor(9.0))
        progress.reset()
        with pytest.raises(RuntimeError, match="no step"):
            progress.mean_loss()
        progress.step(epoch=0, windows=4, loss=torch.tensor(1.0))
        assert progress.mean_loss() == 1.0

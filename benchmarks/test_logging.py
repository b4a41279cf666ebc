"""Progress of 1000 steps: a loss read a step and a print every 1 %, and a bar with rare reads."""

import io
from contextlib import redirect_stdout

import pytest
import torch
from rich.console import Console

from tfa_perf.train.progress import StepProgress

STEPS = 1000


@pytest.fixture(scope="module")
def sides():
    torch.manual_seed(0)
    losses = list(torch.rand(STEPS))

    def before():
        loss_sum = 0.0
        with redirect_stdout(io.StringIO()):
            for step, loss in enumerate(losses, start=1):
                loss_sum += loss.item()
                if step % max(1, STEPS // 100) == 0:
                    progress = (step / STEPS) * 100
                    print(f"[TFA] Epoch 1/1 - {progress:.1f}% - Loss: {loss_sum / step:.6f}")
        return loss_sum / STEPS

    def after():
        console = Console(file=io.StringIO(), force_terminal=True)
        with StepProgress(STEPS, log_every=50, console=console) as progress:
            for loss in losses:
                progress.step(epoch=0, windows=1, loss=loss)
            return progress.mean_loss()

    assert after() == pytest.approx(before(), rel=1e-5)
    return {"before": before, "after": after}


@pytest.mark.row("logging and progress")
def test_logging(measure, sides, impl):
    measure(sides, impl, samples=STEPS)

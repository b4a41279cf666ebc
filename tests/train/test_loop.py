import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import ModelConfig, TrainConfig
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.loop import evaluate, train_steps
from tfa_perf.train.model import WindowEncoder

MODEL = ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24)
WINDOW, FEATURES = 6, 5


def planted(rows=300, seed=0):
    """A table whose label is the sign of the last row's first feature."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, FEATURES), dtype=np.float32)
    return X, (X[:, 0] > 0).astype(np.float32)


def fitted(config, *, rows=300, batch_size=32, steps=None):
    X, y = planted(rows)
    torch.manual_seed(0)
    model = WindowEncoder(FEATURES, MODEL)
    loader = WindowLoader(X, y, window=WINDOW, batch_size=batch_size, shuffle=config.shuffle)
    record = []
    for step in train_steps(model, loader, config, "cpu"):
        record.append(step)
        if len(record) == steps:
            break
    return model, record


@torch.no_grad()
def assert_same_function(one, other, atol=1e-4):
    # Logits, not weights: the bias of the keys has no effect on either model, so its gradient is
    # rounding noise, which AdamW scales up to whole steps.
    X, _ = planted(64, seed=5)
    x = torch.from_numpy(X[:60].reshape(10, WINDOW, FEATURES))
    torch.testing.assert_close(one.eval()(x), other.eval()(x), rtol=0, atol=atol)


def test_learns_a_planted_signal():
    X, y = planted(seed=1)
    model, record = fitted(TrainConfig(epochs=12, lr=3e-3))
    held_out = WindowLoader(X, y, window=WINDOW, batch_size=64)
    assert record[0].loss.item() > 0.6
    result = evaluate(model, held_out, TrainConfig(), "cpu")
    assert result.loss < 0.3
    assert result.auc > 0.95


def test_same_weights_as_the_reports_loop():
    config = TrainConfig(epochs=2, shuffle=False, amp="off")
    ours, record = fitted(config)
    X, y = planted()
    torch.manual_seed(0)
    plain = TFATransformer(FEATURES, MODEL)
    windows = SeqWindows(X, y[:, None], WINDOW, WINDOW - 1, len(X) - 1, 32)
    with redirect_stdout(io.StringIO()) as printed:
        losses = list(train_steps_as_written(plain, windows, config, "cpu"))
    assert len(losses) == len(record)
    assert record[0].loss.item() == pytest.approx(losses[0], rel=1e-5)
    assert_same_function(plain, ours)
    assert printed.getvalue().splitlines()[0].startswith("[TFA] Epoch 1/2 - 10.0% - Loss: 0.")


@pytest.mark.parametrize("micro_batch", [1, 7, 32, 1000])
def test_micro_batches_do_not_change_the_step(micro_batch):
    config = TrainConfig(epochs=1, shuffle=False)
    whole, _ = fitted(config, steps=3)
    cut, _ = fitted(config.model_copy(update={"micro_batch": micro_batch}), steps=3)
    assert_same_function(whole, cut)


def test_accumulated_batches_equal_one_large_batch_short_last_group_included():
    one, large = fitted(TrainConfig(epochs=1, shuffle=False), batch_size=96)
    many, small = fitted(TrainConfig(epochs=1, shuffle=False, accumulation=3), batch_size=32)
    assert [s.windows for s in small] == [s.windows for s in large] == [96, 96, 96, 7]
    for a, b in zip(small, large, strict=True):
        torch.testing.assert_close(a.loss, b.loss, rtol=1e-4, atol=1e-5)
    assert_same_function(one, many)


def test_steps_count_epochs_and_windows():
    _, record = fitted(TrainConfig(epochs=3, accumulation=2), batch_size=100)
    assert [(s.epoch, s.windows) for s in record] == [
        (epoch, windows) for epoch in range(3) for windows in (200, 95)
    ]


def test_clipping_bounds_the_gradient():
    X, y = planted()
    model = WindowEncoder(FEATURES, MODEL)
    loader = WindowLoader(X, y, window=WINDOW, batch_size=32)
    for clip_norm, bound in ((1e-3, 1e-3), (None, np.inf)):
        config = TrainConfig(epochs=1, clip_norm=clip_norm)
        next(train_steps(model, loader, config, "cpu"))
        norm = torch.linalg.vector_norm(
            torch.stack([p.grad.norm() for p in model.parameters()])
        ).item()
        assert norm * 1.001 > 1e-3 if clip_norm is None else norm <= bound * 1.001


def test_bf16_autocast_changes_the_loss_a_little():
    steps = [fitted(TrainConfig(epochs=1, amp=amp), steps=1)[1][0] for amp in ("off", "bf16")]
    full, half = (step.loss.item() for step in steps)
    assert full != half
    assert half == pytest.approx(full, rel=0.05)
    assert fitted(TrainConfig(epochs=1, amp="auto"), steps=1)[1][0].loss.item() == full


def test_evaluate_is_the_mean_over_windows_and_restores_the_mode():
    X, y = planted(50)
    model = WindowEncoder(FEATURES, MODEL)
    loader = WindowLoader(X, y, window=WINDOW, batch_size=16)
    loss = evaluate(model, loader, TrainConfig(), "cpu").loss
    assert model.training
    windows = torch.from_numpy(np.stack([X[t - WINDOW + 1 : t + 1] for t in range(WINDOW - 1, 50)]))
    with torch.no_grad():
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            model.eval()(windows), torch.from_numpy(y[WINDOW - 1 :, None])
        )
    assert loss == pytest.approx(expected.item(), rel=1e-5)

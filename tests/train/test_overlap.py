"""Windows that share their rows in memory, through the model and back."""

import pytest
import torch
from torch.nn import functional as F

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import ModelConfig
from tfa_perf.train import model as module
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.overlap import shared_rows, windows_of


def overlapping(windows, T, features, **kind):
    rows = torch.randn(windows + T - 1, features, **kind)
    return rows.as_strided((windows, T, features), (features, features, 1))


def run(model, x):
    model.zero_grad()
    torch.manual_seed(1)
    logits = model(x)
    F.binary_cross_entropy_with_logits(logits, (logits > 0).float()).backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("windows", "T"), [(2, 2), (9, 5), (40, 17)])
def test_the_model_gives_what_it_gives_for_copies(windows, T, layers):
    torch.manual_seed(0)
    config = ModelConfig(d_model=16, nhead=2, num_layers=layers, ffn_hidden=24)
    model, x = WindowEncoder(6, config), overlapping(windows, T, 6)
    plain = TFATransformer(6, config)
    plain.load_state_dict(model.state_dict())
    for got, want in zip(run(model, x), run(plain, x.contiguous()), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_each_row_is_projected_once(monkeypatch):
    config = ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24)
    model, sizes = WindowEncoder(6, config), []
    linear = module.linear
    monkeypatch.setattr(
        module, "linear", lambda x, *args, **options: sizes.append(x[..., 0].numel())
        or linear(x, *args, **options),
    )  # fmt: skip
    model(overlapping(20, 8, 6))
    # The projection of the features, and that of queries, keys and values; then all windows.
    assert sizes[:3] == [27, 27, 160]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_positions_are_those_in_the_window(positions):
    torch.manual_seed(0)
    config = ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24, positions=positions)
    model, x = WindowEncoder(6, config, window=8), overlapping(5, 8, 6)
    for got, want in zip(run(model, x), run(model, x.contiguous()), strict=True):
        torch.testing.assert_close(got, want)


def test_dropout_differs_from_window_to_window():
    config = ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24, dropout=0.5)
    rows = torch.ones(12, 6).as_strided((5, 8, 6), (6, 6, 1))
    assert len(WindowEncoder(6, config)(rows).unique()) == 5


def test_rows_are_found_in_views_alone():
    x = overlapping(5, 4, 3)
    rows = shared_rows(x)
    assert torch.equal(windows_of(rows, 4), x)
    assert shared_rows(x[1:3]).shape == (5, 3)
    for other in (x.contiguous(), x[:1], x[:, :1], x[::2], x[:, 1:], x[..., 1:], x.double(), x[0]):
        found = shared_rows(other)
        assert found is None or torch.equal(windows_of(found, other.shape[1]), other)
    assert shared_rows(x.contiguous()) is None


def test_the_gradient_of_a_row_is_summed_over_its_windows():
    rows = torch.randn(9, 3, dtype=torch.float32, requires_grad=True)
    given = torch.randn(6, 4, 3)
    (got,) = torch.autograd.grad(windows_of(rows, 4), rows, given)
    copies = rows.unfold(0, 4, 1).transpose(1, 2)
    (want,) = torch.autograd.grad(copies, rows, given)
    torch.testing.assert_close(got, want)

"""Encoder layers by kernels on a CPU against torch's own, and where they do not run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import ModelConfig
from tfa_perf.train import encoder_layer as module
from tfa_perf.train import self_attention
from tfa_perf.train.model import WindowEncoder

SHAPE = ModelConfig(d_model=32, nhead=2, num_layers=3, ffn_hidden=64, dropout=0.0)


@pytest.fixture
def used(monkeypatch):
    """The names of the kernels that have run."""
    names = []
    for source in (module.kernels, module.last_rows, self_attention.kernels):
        for name in filter(str.islower, source.__all__):
            kernel = getattr(source, name)

            def spied(*args, name=name, kernel=kernel, **options):
                names.append(name)
                return kernel(*args, **options)

            monkeypatch.setattr(source, name, spied)
    return names


def made(model_class, **options):
    torch.manual_seed(3)
    return model_class(5, SHAPE, **options)


def loss_and_gradients(model, x):
    loss = model(x).square().mean()
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_model_is_as_close_to_float64_as_torchs(overlapping, used):
    ours, theirs = made(WindowEncoder), made(TFATransformer)
    rows = torch.randn(60, 5)
    x = rows.as_strided((40, 12, 5), (5, 5, 1)) if overlapping else torch.randn(40, 12, 5)
    loss, gradients = loss_and_gradients(ours, x)
    _, exact = loss_and_gradients(copy.deepcopy(theirs).double(), x.double())
    want, plain = loss_and_gradients(theirs, x.contiguous())
    torch.testing.assert_close(loss, want)
    for name, gradient in gradients.items():
        off, usual = (float((g - exact[name]).abs().max()) for g in (gradient, plain[name]))
        # Torch's own is now and then exact by chance.
        largest = float(exact[name].abs().max())
        assert off <= 3 * usual + 10 * torch.finfo(torch.float32).eps * largest, name
    assert used.count("after_attention_gradient") == 3
    assert used.count("before_attention_gradient") == (1 if overlapping else 0)
    assert used.count("self_attention_gradient") == (1 if overlapping else 2)
    assert used.count("last_attention_gradient") == 1


def test_without_gradients_the_same_comes_out(used):
    model, x = made(WindowEncoder), torch.randn(40, 12, 5)
    with_gradients = model(x)
    with torch.no_grad():
        assert torch.equal(model(x), with_gradients)
    assert not any(name.endswith("gradient") for name in used)


def test_parameters_that_are_frozen_get_no_gradient():
    model, x = made(WindowEncoder), torch.randn(4, 12, 5)
    whole = loss_and_gradients(copy.deepcopy(model), x)[1]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" not in name)
    _, gradients = loss_and_gradients(model, x)
    for name, gradient in gradients.items():
        assert gradient is None if "norm" in name else torch.equal(gradient, whole[name])


def test_a_gradient_of_a_gradient_is_refused():
    x = torch.randn(4, 12, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(made(WindowEncoder)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("overlapping", [False, True])
def test_products_in_kernels_are_counted_like_torchs(overlapping):
    model, x = made(WindowEncoder), torch.randn(16, 12, 5)
    if overlapping:
        x = torch.randn(27, 5).as_strided((16, 12, 5), (5, 5, 1))
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    counted = counter.get_flop_counts()["Global"]
    ours = {name: n for name, n in counted.items() if "tfa_perf" in str(name)}
    rows, d, hidden = 16 * 12, 32, 64
    layers, products, attention = (1 if overlapping else 2), 2 * d * 3 * d, 4 * rows * 12 * d
    first = {
        "before_attention": 27 * products,
        "before_attention_gradient": 2 * 27 * products,
        "shared_attention": attention,
        "shared_attention_gradient": 2 * attention,
    }
    assert {str(name).split(".")[-1]: n for name, n in ours.items()} == {
        **(first if overlapping else {}),
        "self_attention": layers * (rows * products + attention),
        "self_attention_gradient": 2 * layers * (rows * products + attention),
        # The last layer goes on with the last row of each window.
        "after_attention": 2 * (2 * rows + 16) * d * (d + 2 * hidden),
        "after_attention_gradient": 4 * (2 * rows + 16) * d * (d + 2 * hidden),
        "last_rows": 4 * rows * 2 * d,
        "last_rows_gradient": 8 * rows * 2 * d,
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.double(),
        lambda layer: setattr(layer, "activation", F.relu),
        lambda layer: setattr(layer.dropout1, "p", 0.1),
        lambda layer: setattr(layer, "linear1", torch.nn.Linear(32, 65)),
    ],
    ids=["float64", "relu", "dropout", "columns"],
)
def test_where_they_do_not_fit_torchs_own_run(change):
    layer, x = made(WindowEncoder).encoder.layers[0], torch.randn(2, 3, 32)
    assert module.in_kernels(layer, x)
    change(layer)
    assert not module.in_kernels(layer, x.to(layer.norm1.weight.dtype))


def test_under_autocast_and_in_evaluation():
    layer, x = made(WindowEncoder).encoder.layers[0], torch.randn(2, 3, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not module.in_kernels(layer, x)
    assert not module.in_kernels(layer, x.bfloat16())
    layer.dropout.p = 0.5
    assert not module.in_kernels(layer, x)
    assert module.in_kernels(layer.eval(), x)


def test_a_compiled_model_goes_without_them(used):
    model, x = made(WindowEncoder), torch.randn(4, 12, 5)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), made(TFATransformer)(x))
    assert not used

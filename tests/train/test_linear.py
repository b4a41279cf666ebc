import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tfa_perf.config import ModelConfig
from tfa_perf.train.linear import linear
from tfa_perf.train.model import WindowEncoder, _mix_last


def gradients(inputs, function, upstream):
    leaves = [None if t is None else t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    y.backward(upstream.to(y.dtype))
    return y, [None if t is None else t.grad for t in leaves]


@settings(max_examples=40)
@given(
    leading=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    k=st.integers(1, 40),
    n=st.integers(1, 40),
    with_bias=st.booleans(),
    with_residual=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_output_and_gradients_are_those_of_float64(leading, k, n, with_bias, with_residual, seed):
    torch.manual_seed(seed)
    x, weight = torch.randn(*leading, k), torch.randn(n, k)
    bias = torch.randn(n) if with_bias else None
    residual = torch.randn(*leading, n) if with_residual else None
    upstream = torch.randn(*leading, n)

    def plain(x, weight, bias, residual):
        y = F.linear(x, weight, bias)
        return y if residual is None else y + residual

    def ours(x, weight, bias, residual):
        return linear(x, weight, bias, residual=residual)

    inputs = (x, weight, bias, residual)
    doubles = [None if t is None else t.double() for t in inputs]
    y, grads = gradients(inputs, ours, upstream)
    expected, expected_grads = gradients(doubles, plain, upstream)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-4)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        if wanted is not None:
            torch.testing.assert_close(grad.double(), wanted, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(ours(*inputs), y)


@pytest.mark.parametrize("cut", [lambda t: t[:, -1:], lambda t: t[:, ::2], lambda t: t.mT])
def test_strided_input_residual_and_gradient(cut):
    x, residual = torch.randn(6, 8, 8), torch.randn(6, 8, 8)
    weight, bias = torch.randn(8, 8), torch.randn(8)
    kept = residual.clone()
    upstream = cut(torch.randn(6, 8, 8))
    inputs = (cut(x), weight, bias, cut(residual))
    y, grads = gradients(inputs, lambda x, w, b, r: linear(x, w, b, residual=r), upstream)
    plain = gradients(inputs, lambda x, w, b, r: r + F.linear(x, w, b), upstream)
    torch.testing.assert_close((y, *grads), (plain[0], *plain[1]), rtol=1e-5, atol=1e-4)
    assert torch.equal(residual, kept)


def test_a_gradient_that_is_one_number_for_all():
    x, weight = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand(5, 3))
    torch.testing.assert_close(weight.grad, x.detach().sum(0).expand(4, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_plain_linear(dtype):
    x, weight = torch.randn(5, 3, dtype=dtype), torch.randn(4, 3, dtype=dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_autocast_and_empty_input_are_plain_linear():
    x, weight = torch.randn(5, 3), torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    assert linear(x[:0], weight).shape == (0, 4)


def test_wrong_shapes_are_refused_as_by_plain_linear():
    x, weight = torch.randn(5, 3), torch.randn(4, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(x, torch.randn(4, 2))
    with pytest.raises(RuntimeError, match="size"):
        linear(x, weight, torch.randn(3))
    with pytest.raises(RuntimeError, match="size"):
        linear(x, weight, residual=torch.randn(3, 4))


@pytest.mark.filterwarnings("ignore:TF32")
def test_onednn_switched_off_gives_the_same():
    x, weight, bias = torch.randn(50, 30), torch.randn(40, 30), torch.randn(40)
    y = linear(x, weight, bias)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(linear(x, weight, bias), y, rtol=1e-5, atol=1e-5)


def test_dropped_attention_weights_take_their_share_of_the_values_bias():
    # Equal scores and values of 1: the output counts the weights that were kept.
    window, rate = 10, 0.4
    layer = WindowEncoder(
        4, ModelConfig(d_model=8, nhead=2, num_layers=1, ffn_hidden=8, dropout=rate)
    ).encoder.layers[0]
    with torch.no_grad():
        layer.self_attn.in_proj_weight.zero_()
        layer.self_attn.in_proj_bias.fill_(1)
    torch.manual_seed(0)
    mixed, _ = _mix_last(layer, torch.randn(5000, window, 8))
    kept = mixed * window * (1 - rate)
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-4)
    heads = kept.unflatten(-1, (2, 4))[:, 0]
    assert torch.equal(heads, heads[..., :1].expand_as(heads))
    assert not torch.equal(heads[:, 0], heads[:, 1])
    assert heads.mean().item() == pytest.approx(window * (1 - rate), rel=0.02)
    assert heads[..., 0].var().item() == pytest.approx(window * rate * (1 - rate), rel=0.05)
    layer.eval()
    torch.testing.assert_close(_mix_last(layer, torch.randn(5, window, 8))[0], torch.ones(5, 1, 8))

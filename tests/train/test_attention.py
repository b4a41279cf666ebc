"""Attention in short windows: kernels of ours where they run, torch's elsewhere."""

from __future__ import annotations

import logging

import pytest
import torch

from tfa_perf.train import attention as module
from tfa_perf.train.attention import attention, last_attention

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def naive(q, k, v, heads):
    """softmax(q k^T / sqrt(w)) v, head by head: [b, Q, d] over [b, T, d]."""
    mixed = []
    for of_head in zip(*(t.chunk(heads, dim=-1) for t in (q, k, v)), strict=True):
        sought, keys, values = of_head
        weights = (sought @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5).softmax(-1)
        mixed.append(weights @ values)
    return torch.cat(mixed, dim=-1)


def naive_attention(qkv, heads):
    return naive(*qkv.chunk(3, dim=-1), heads)


def naive_last(query, kv, heads):
    return naive(query.unsqueeze(1), *kv.chunk(2, dim=-1), heads)[:, 0]


def gradients(function, tensors, heads, given):
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    out = function(*tensors, heads)
    return [out.detach(), *torch.autograd.grad(out, tensors, given.to(out.dtype))]


def inputs(windows, rows, heads, width, seed=0, **kind):
    generator = torch.Generator().manual_seed(seed)
    d = heads * width
    shapes = [(windows, rows, 3 * d), (windows, rows, d), (windows, d), (windows, rows, 2 * d)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(**kind) for s in shapes]


@pytest.mark.parametrize(("rows", "heads", "width"), [(1, 1, 8), (7, 2, 3), (48, 8, 16)])
def test_values_and_gradients_are_those_of_the_definition(rows, heads, width):
    qkv, g, query, kv = inputs(3, rows, heads, width)
    for got, want in (
        (gradients(attention, [qkv], heads, g), gradients(naive_attention, [qkv], heads, g)),
        (
            gradients(last_attention, [query, kv], heads, g[:, 0]),
            gradients(naive_last, [query, kv], heads, g[:, 0]),
        ),
    ):
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)


def test_on_a_cpu_float32_is_as_close_to_float64_as_torchs():
    qkv, g, *_ = inputs(5, 48, 8, 16, dtype=torch.float32)
    want = gradients(naive_attention, [qkv.double()], 8, g)
    theirs = gradients(module._by_torch, [qkv], 8, g)
    # The gradient comes as torch gives it: of any layout, as an expanded one is.
    ours = gradients(attention, [qkv], 8, g.transpose(0, 1).contiguous().transpose(0, 1))
    for got, reference, exact in zip(ours, theirs, want, strict=True):
        assert (got - exact).abs().max() <= 3 * (reference - exact).abs().max()


def test_on_a_cpu_the_kernels_run_where_they_should_and_only_there(monkeypatch):
    used = []
    monkeypatch.setattr(module.CpuAttention, "apply", lambda qkv, heads: used.append(1))
    short = torch.zeros(2, 48, 3 * 16)
    attention(short, 1)
    assert used == [1]
    for qkv, options in (
        (short.double(), {}),
        (short.bfloat16(), {}),
        (short, {"dropout": 0.1}),
        (short.new_zeros(2, 129, 48), {}),
    ):
        assert attention(qkv, 1, **options).shape == (*qkv.shape[:2], 16)
    compiled = torch.export.export(_Attends(), (short,)).module()
    assert torch.equal(compiled(short), module._by_torch(short, 1))
    assert used == [1]


class _Attends(torch.nn.Module):
    def forward(self, qkv):
        return attention(qkv, 1)


def test_a_gradient_of_a_gradient_is_refused():
    qkv = torch.randn(2, 5, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention(qkv, 2).square().sum(), qkv, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_dropout_drops():
    qkv, *_ = inputs(2, 16, 2, 4)
    assert not torch.equal(attention(qkv, 2, dropout=0.5), attention(qkv, 2))


def test_the_operators_are_sound_and_go_without_kernels(caplog):
    """On a device without Triton they compute what torch does, and say so once."""
    module._kernels.cache_clear()
    qkv, g, query, kv = inputs(2, 5, 2, 4)
    with caplog.at_level(logging.WARNING):
        torch.library.opcheck(module._attention, (qkv.requires_grad_(), 2))
        torch.library.opcheck(
            module._last_attention, (query.requires_grad_(), kv.requires_grad_(), 2)
        )
    assert caplog.text.count("attention by torch") == 1
    for ways, oracle, tensors, given in (
        ((module._attention, module._Attention.apply), naive_attention, [qkv], g),
        ((module._last_attention, module._LastAttention.apply), naive_last, [query, kv], g[:, 0]),
    ):
        want = gradients(oracle, tensors, 2, given)
        for way in ways:
            for a, b in zip(gradients(way, tensors, 2, given), want, strict=True):
                torch.testing.assert_close(a, b)


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("rows", [1, 8, 17, 32, 48, 64, 96, 128])
def test_kernels_are_as_close_to_float64_as_torchs(rows, width, dtype):
    if rows * width > module.LARGEST:
        pytest.skip("torch's own is used")
    seed = torch.seed() % 2**31
    heads = 3
    kind = {"device": "cuda", "dtype": dtype}
    qkv, g, query, kv = inputs(5, rows, heads, width, seed=seed, **kind)
    for ours, torchs, oracle, tensors, given in (
        (attention, module._by_torch, naive_attention, [qkv], g),
        (last_attention, module._last_by_torch, naive_last, [query, kv], g[:, 0]),
    ):
        want = gradients(oracle, [t.double() for t in tensors], heads, given)
        theirs = gradients(torchs, tensors, heads, given)
        for got, reference, exact in zip(
            gradients(ours, tensors, heads, given), theirs, want, strict=True
        ):
            rounding = torch.finfo(dtype).eps * exact.abs().max()
            error, allowed = (got - exact).abs().max(), (reference - exact).abs().max()
            assert error <= 1.5 * allowed + rounding, f"seed {seed}"


@needs_cuda
def test_kernels_run_where_they_should_and_only_there(monkeypatch):
    used = []
    monkeypatch.setattr(module._Attention, "apply", lambda *_: used.append(1))
    short = torch.zeros(2, 48, 3 * 16, device="cuda", dtype=torch.bfloat16)
    attention(short, 1)
    assert used == [1]
    for qkv, options in (
        (short.float(), {}),
        (short.cpu(), {}),
        (short, {"dropout": 0.1}),
        (short.new_zeros(2, 129, 48), {}),
        (short.new_zeros(2, 128, 3 * 64), {}),
    ):
        assert attention(qkv, 1, **options).shape == (*qkv.shape[:2], qkv.shape[2] // 3)
    assert used == [1]


@needs_cuda
def test_many_windows_reach_no_wrong_memory():
    """More values than 2^31, so that offsets must not be 32 bits wide."""
    windows, rows, heads, width = 180_000, 48, 8, 32
    qkv = torch.randn(windows, rows, 3 * heads * width, device="cuda", dtype=torch.bfloat16)
    got = attention(qkv, heads)
    for part in (slice(0, 64), slice(windows - 64, windows)):
        torch.testing.assert_close(got[part], attention(qkv[part].contiguous(), heads))


@needs_cuda
def test_rows_out_of_order_in_memory_are_taken_as_they_are():
    qkv, g, *_ = inputs(48, 6, 2, 16, device="cuda", dtype=torch.bfloat16)
    turned = qkv.transpose(0, 1).contiguous().transpose(0, 1)
    for a, b in zip(
        gradients(attention, [turned], 2, g), gradients(attention, [qkv], 2, g), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

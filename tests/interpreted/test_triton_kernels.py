"""The Triton kernels in Triton's interpreter, on machines without a GPU: `make nightly-triton`.

Products are exact in float32 there, so results are compared closely with float64.
"""

from __future__ import annotations

import contextlib
import copy
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tfa_perf.config import ModelConfig
from tfa_perf.data.device_windows import spaced_columns
from tfa_perf.train import cuda_encoder
from tfa_perf.train.captured_update import ClippedAdamW
from tfa_perf.train.model import WindowEncoder

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="needs Triton's interpreter"
)


@pytest.fixture(scope="module", autouse=True)
def no_device():
    """What the launchers ask of a device; few programs, so that each has several blocks."""
    from tfa_perf.train import _layer_triton, _linear_gradient_triton

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        for module in (_layer_triton, _linear_gradient_triton):
            patch.setattr(module, "multiprocessors", lambda _: 3)
        yield


def model(features, *, d, heads, layers, hidden):
    shape = {"d_model": d, "nhead": heads, "num_layers": layers, "ffn_hidden": hidden}
    own = WindowEncoder(features, ModelConfig(dropout=0.0, **shape))
    for parameter in own.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    return own


def errors(own, x, given):
    """Norms of differences from float64 over norms: the logits' and each gradient's."""
    logits = cuda_encoder.logits(own, x, torch.float32)
    got = [logits.detach(), *torch.autograd.grad(logits, list(own.parameters()), given)]
    exact = copy.deepcopy(own).double()
    logits = exact(x.double())
    want = [logits, *torch.autograd.grad(logits, list(exact.parameters()), given.double())]
    return [float(((a - b).norm() / b.norm()).detach()) for a, b in zip(got, want, strict=True)]


@settings(deadline=None, max_examples=25)
@given(
    windows=st.integers(2, 9),
    rows=st.integers(1, 20),
    features=st.integers(1, 40),
    width=st.sampled_from([4, 8, 16]),
    heads=st.sampled_from([4, 8, 12]),
    layers=st.integers(1, 3),
    hidden=st.sampled_from([16, 48, 64, 96]),
    seed=st.integers(0, 2**31),
)
def test_any_model_is_close_to_float64(windows, rows, features, width, heads, layers, hidden, seed):
    torch.manual_seed(seed)
    d = width * heads
    own = model(features, d=d, heads=heads, layers=layers, hidden=hidden)
    x, given_ = torch.randn(windows, rows, features), torch.randn(windows, 1)
    assert max(errors(own, x, given_)) < 1e-4


@pytest.mark.parametrize("overlapping", [False, True])
def test_more_rows_than_programs(overlapping):
    torch.manual_seed(0)
    own = model(55, d=64, heads=4, layers=2, hidden=128)
    table = torch.randn(150, 55)
    x = table.as_strided((100, 48, 55), (55, 55, 1)) if overlapping else torch.randn(100, 48, 55)
    assert max(errors(own, x, torch.randn(100, 1))) < 1e-5


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("features", [1, 16, 55])
def test_spaced_rows_are_read_as_they_lie(features, whole):
    torch.manual_seed(features)
    own = model(features, d=32, heads=2, layers=2, hidden=32)
    wide = spaced_columns(features)
    # What lies between rows does not count, and need not be there behind the last one.
    memory = torch.full((9, 48, wide), float("nan")).flatten()
    if not whole:
        memory = memory[: len(memory) - wide + features].clone()
    x = memory.as_strided((9, 48, features), (48 * wide, wide, 1))
    x.copy_(torch.randn(9, 48, features))
    given_ = torch.randn(9, 1)
    got = errors(own, x, given_)
    assert max(got) < 1e-5
    assert got == errors(own, x.contiguous(), given_) or features == wide


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("features", [1, 3, 16, 55])
def test_windows_are_cut_scaled_and_rounded(features, scaled, dtype):
    from tfa_perf.data._gather_triton import gather

    torch.manual_seed(features)
    X, labels = torch.randn(300, features), torch.randn(300)
    shift, factor = torch.randn(features), torch.rand(features) + 0.5
    ends = torch.tensor([47, 48, 299, 100, 47])
    want = torch.stack([X[end - 47 : end + 1] for end in ends])
    if scaled:
        want = (want - shift) * factor
    for columns in (features, spaced_columns(features)):
        x = torch.full((5, 48, columns), float("nan"), dtype=dtype)
        y = torch.empty(5)
        gather(X, ends, 48, x, labels, 0, y, *((shift, factor) if scaled else (None, None)))
        assert torch.equal(x[..., :features], want.to(dtype))
        assert not x[..., features:].any()
        assert torch.equal(y, labels[ends])


def test_more_layers_than_a_kernel_has_branches():
    torch.manual_seed(0)
    own = model(3, d=16, heads=2, layers=9, hidden=16)
    assert max(errors(own, torch.randn(5, 4, 3), torch.randn(5, 1))) < 1e-5


@pytest.mark.parametrize("count", [1, 2500])
@pytest.mark.parametrize("pos_weight", [None, 2.5])
def test_cross_entropies_are_torchs(count, pos_weight):
    torch.manual_seed(count)
    logits, y, weight = 9 * torch.randn(count, 1), torch.rand(count, 1), torch.rand(count, 1)
    times = None if pos_weight is None else torch.tensor(pos_weight)
    exact = logits.double().requires_grad_()
    losses = nn.functional.binary_cross_entropy_with_logits(
        exact, y.double(), reduction="none", pos_weight=times
    )
    want = (losses * weight).sum()
    want.backward()
    from tfa_perf.train._bce_triton import weighted_sum

    total, gradient = weighted_sum(logits, y, weight, times)
    torch.testing.assert_close(total.double(), want.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 1.0, 1e6])
def test_clip_and_update_are_torchs(clip_norm):
    both = []
    for _ in range(2):
        torch.manual_seed(1)
        own = [nn.Parameter(torch.randn(shape)) for shape in [(3, 7), (50, 70), (1,), (2049,)]]
        groups = [{"params": own[:3], "betas": (0.8, 0.95)}, {"params": own[3:], "eps": 1e-4}]
        both.append((own, torch.optim.AdamW(groups, lr=torch.tensor(1e-2), weight_decay=0.1)))
    (theirs, reference), (ours, optimizer) = both
    kernels = ClippedAdamW(optimizer, ours, clip_norm)
    for p in ours:
        zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(0.0), **zeros}
    for step in range(20):
        for a, b in zip(theirs, ours, strict=True):
            a.grad = torch.randn_like(a) * 10 ** (step % 5 - 2)
            b.grad = a.grad.clone()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(theirs, clip_norm)
        reference.step()
        kernels.step()
        for a, b in zip(theirs, ours, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-7)
            assert optimizer.state[b]["step"] == reference.state[a]["step"] == step + 1


@pytest.mark.parametrize("spaced", [False, True])
def test_the_operator_is_sound(spaced):
    torch.manual_seed(0)
    own = model(7, d=32, heads=2, layers=2, hidden=48)
    parameters = [own.proj.weight, own.proj.bias]
    for layer in own.encoder.layers:
        parameters += cuda_encoder._parameters(layer)
    parameters += [*own.norm.parameters(), *own.head.parameters()]
    x = torch.randn(3, 5, 16)[..., :7] if spaced else torch.randn(3, 5, 7)
    torch.library.opcheck(cuda_encoder._encode, (x, parameters, 2, 1e-5, torch.float32, spaced))

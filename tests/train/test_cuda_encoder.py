"""The model as kernels on a CUDA device: values and gradients of the definition, where they fit."""

from __future__ import annotations

import copy

import pytest
import torch

from tfa_perf.config import ModelConfig
from tfa_perf.data.device_windows import spaced_columns
from tfa_perf.train import cuda_encoder
from tfa_perf.train.model import WindowEncoder

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

REPORT = {"d_model": 128, "nhead": 8, "num_layers": 3, "ffn_hidden": 256}
TUNED = {"d_model": 96, "nhead": 4, "num_layers": 2, "ffn_hidden": 192}


def model(features, sizes, **changes):
    made = WindowEncoder(features, ModelConfig(**{"dropout": 0.0, **sizes, **changes}))
    for parameter in made.parameters():
        # As after some training: biases are not 0, weights of norms not 1.
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() == 1 else None
    return made.to("cuda")


def drawn(*shape):
    """Random numbers of the host: a device has none after a capture that failed in the process."""
    return torch.randn(shape).cuda()


def results(of, x, given, *, dtype=None):
    """Logits and the gradients of all parameters."""
    with torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
        logits = of(x)
    gradients = torch.autograd.grad(logits, list(of.parameters()), given.to(logits.dtype))
    return [logits.detach(), *gradients]


def errors(got, exact):
    """Norms of differences over norms, the logits' and each gradient's."""
    return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(got, exact, strict=True)]


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("windows", "rows", "features", "sizes"),
    [
        (16, 1, 1, {"d_model": 16, "nhead": 1, "num_layers": 1, "ffn_hidden": 16}),
        (3, 5, 7, {"d_model": 32, "nhead": 2, "num_layers": 2, "ffn_hidden": 48}),
        (65, 17, 128, {"d_model": 80, "nhead": 5, "num_layers": 3, "ffn_hidden": 160}),
        (9, 4, 3, {"d_model": 16, "nhead": 2, "num_layers": 9, "ffn_hidden": 16}),
        (11, 128, 55, {"d_model": 64, "nhead": 2, "num_layers": 2, "ffn_hidden": 128}),
        (1000, 48, 55, REPORT),
        (1024, 32, 55, TUNED),
    ],
)
def test_kernels_are_as_close_to_float64_as_torchs(
    windows, rows, features, sizes, dtype, monkeypatch
):
    seed = torch.seed() % 2**31
    torch.manual_seed(seed)
    own = model(features, sizes)
    x = drawn(windows, rows, features)
    given = drawn(windows, 1)
    exact = results(copy.deepcopy(own).double(), x.double(), given)
    ours = errors(results(own, x, given, dtype=dtype), exact)
    monkeypatch.setattr(cuda_encoder, "in_kernels", lambda *_: False)
    theirs = errors(results(own, x, given, dtype=dtype), exact)
    for error, allowed in zip(ours, theirs, strict=True):
        assert error <= 2 * allowed + torch.finfo(dtype).eps, f"seed {seed}"


@needs_cuda
def test_windows_may_overlap_in_memory():
    own = model(55, TUNED)
    table = drawn(80, 55)
    given = drawn(49, 1)
    overlapping = table.as_strided((49, 32, 55), (55, 55, 1))
    for a, b in zip(
        results(own, overlapping.contiguous(), given, dtype=torch.bfloat16),
        results(own, overlapping, given, dtype=torch.bfloat16),
        strict=True,
    ):
        assert torch.equal(a, b)


@needs_cuda
@pytest.mark.parametrize("features", [3, 55, 64])
@pytest.mark.parametrize("whole", [False, True])
def test_rounded_and_spaced_windows_give_the_same_bits(features, whole):
    own = model(features, TUNED)
    wide = spaced_columns(features)
    memory = torch.full((70 * 32 * wide,), float("nan"), device="cuda", dtype=torch.bfloat16)
    if not whole:
        memory = memory[: len(memory) - wide + features].clone()
    x = memory.as_strided((70, 32, features), (32 * wide, wide, 1))
    x.copy_(drawn(70, 32, features))
    given = drawn(70, 1)
    want = results(own, x.float().contiguous(), given, dtype=torch.bfloat16)
    compiled = torch.compile(own, dynamic=False, fullgraph=True)
    for way, of in [(x, own), (x.contiguous(), own), (x, compiled)]:
        got = results(of, way, given, dtype=torch.bfloat16)
        if of is own:
            assert all(map(torch.equal, got, want))
        assert max(errors(got, [t.double() for t in want])) < 1e-6


@needs_cuda
def test_the_same_bits_every_time_and_no_unwritten_value():
    own = model(55, REPORT)
    x, given = drawn(300, 48, 55), drawn(300, 1)
    first = results(own, x, given, dtype=torch.bfloat16)
    torch.cuda.empty_cache()
    # What was freed is full of NaN: what is not written shows.
    filled = [torch.full((1 << 26,), float("nan"), device="cuda") for _ in range(8)]
    del filled
    for a, b in zip(results(own, x, given, dtype=torch.bfloat16), first, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()


@needs_cuda
def test_compiled_it_is_the_same():
    own = model(55, TUNED)
    x, given = drawn(64, 32, 55), drawn(64, 1)
    want = results(own, x, given, dtype=torch.bfloat16)
    compiled = torch.compile(own, dynamic=False, fullgraph=True)
    got = results(compiled, x, given, dtype=torch.bfloat16)
    assert max(errors(got, [t.double() for t in want])) < 1e-6


@needs_cuda
def test_the_operator_is_sound():
    own = model(7, {"d_model": 32, "nhead": 2, "num_layers": 2, "ffn_hidden": 48})
    parameters = [own.proj.weight, own.proj.bias]
    for layer in own.encoder.layers:
        parameters += cuda_encoder._parameters(layer)
    parameters += [*own.norm.parameters(), *own.head.parameters()]
    x = drawn(3, 5, 7)
    torch.library.opcheck(cuda_encoder._encode, (x, parameters, 2, 1e-5, torch.bfloat16, False))
    spaced = drawn(3, 5, 16).bfloat16()[..., :7]
    torch.library.opcheck(cuda_encoder._encode, (spaced, parameters, 2, 1e-5, torch.bfloat16, True))


@needs_cuda
def test_a_gradient_of_a_gradient_is_refused():
    own = model(7, {"d_model": 32, "nhead": 2, "num_layers": 1, "ffn_hidden": 48})
    with torch.autocast("cuda", torch.bfloat16):
        loss = own(drawn(3, 5, 7)).square().sum()
    (gradient,) = torch.autograd.grad(loss, own.proj.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="encode_gradient"):
        gradient.sum().backward()


@needs_cuda
def test_more_values_than_2_to_the_31():
    """Offsets of rows must not be 32 bits wide."""
    windows = 360_000
    own = model(55, REPORT).eval()
    table = drawn(windows + 47, 55)
    x = table.as_strided((windows, 48, 55), (55, 55, 1))
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        got = own(x)
        # So many that the same kernels take them as take all.
        for part in (slice(0, 4096), slice(windows - 4096, windows)):
            assert torch.equal(got[part], own(x[part]))


@needs_cuda
def test_kernels_run_where_they_fit_and_only_there(monkeypatch):
    used = []
    logits = cuda_encoder.logits
    monkeypatch.setattr(cuda_encoder, "logits", lambda *a: used.append(1) or logits(*a))
    x = drawn(4, 48, 55)

    def taken(of, x, dtype=torch.bfloat16, enabled=True):
        used.clear()
        with torch.autocast("cuda", dtype, enabled=enabled):
            of(x)
        return bool(used)

    fits = model(55, REPORT)
    assert taken(fits, x)
    assert taken(fits.eval(), x, torch.float16)
    assert taken(fits, x.bfloat16())
    assert not taken(fits, x.bfloat16(), torch.float16)
    assert taken(model(55, REPORT, dropout=0.1).eval(), x)
    assert not taken(model(55, REPORT, dropout=0.1).train(), x)
    assert not taken(fits, x, enabled=False)
    assert not taken(fits, x.clone().requires_grad_())
    assert not taken(fits, drawn(4, 48, 110)[..., ::2])
    assert not taken(fits, drawn(4, 129, 55))
    assert not taken(model(129, REPORT), drawn(4, 48, 129))
    assert not taken(model(55, REPORT, d_model=256), x)
    assert not taken(model(55, REPORT, d_model=120), x)
    assert not taken(model(55, REPORT, ffn_hidden=200), x)
    assert not taken(model(55, REPORT, positions="rotary"), x)
    assert not taken(model(55, REPORT, nhead=1), x)
    other = model(55, REPORT)
    other.head = torch.nn.Sequential(other.head, torch.nn.Tanh())
    assert not taken(other, x)
    # What does not fit the model is for torch to refuse.
    with pytest.raises(RuntimeError, match="shapes"):
        taken(fits, drawn(4, 48, 54))
    assert not used


def test_on_a_cpu_they_are_not_taken():
    own = WindowEncoder(55, ModelConfig(dropout=0.0, **TUNED))
    assert not cuda_encoder.in_kernels(own, torch.ones(4, 32, 55))

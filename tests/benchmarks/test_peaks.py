import pytest
import torch
from torch.nn import functional as F

from benchmarks.peaks import flops_of, peak_per_s
from benchmarks.timers import synchronised

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
oneDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def test_operations_of_a_product():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert flops_of(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.skipif(oneDNN is None, reason="this torch has no oneDNN")
def test_operations_of_a_product_by_onednn():
    x, weight = torch.ones(2, 3, 5), torch.ones(7, 5)
    assert flops_of(lambda: oneDNN(x, weight, None, "none", [], "")) == 2 * 2 * 3 * 5 * 7


def test_operations_of_fused_attention_and_of_its_backward():
    batch, heads, length, width = 2, 3, 16, 8
    qkv = [torch.randn(batch, heads, length, width, requires_grad=True) for _ in range(3)]
    one_product = 2 * batch * heads * length * length * width
    made = []
    forward = flops_of(lambda: made.append(F.scaled_dot_product_attention(*qkv)))
    assert forward == 2 * one_product
    assert flops_of(lambda: made[0].sum().backward()) == 4 * one_product


@pytest.mark.parametrize("kind", ["memcpy", "GEMM"])
def test_peaks_are_measured_as_often_as_asked(kind):
    found = peak_per_s(kind, times=3)
    assert len(found) == 3
    assert all(rate > 0 for rate in found)


@needs_gpu
def test_the_clock_of_a_round_waits_for_the_gpu():
    x, done = torch.randn(8192, 8192, device="cuda"), torch.cuda.Event()
    for _ in range(20):
        x @ x
    done.record()
    assert not done.query()
    synchronised()
    assert done.query()
    assert all(rate > 0 for rate in peak_per_s("copy to the GPU", times=2))

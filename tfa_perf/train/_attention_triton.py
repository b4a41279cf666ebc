# mypy: ignore-errors
"""Attention inside short windows as Triton kernels: a head's whole window stays in registers.

One program has one head of one window. Nothing is kept for the backward pass but the projections:
it computes the weights again.
"""

import torch
import triton
import triton.language as tl

# exp2 is what the hardware has.
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _rows(pointer, stride, T: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, BW: tl.constexpr):
    """Addresses of rows [BT, BW] of one head, and which of them exist."""
    row = tl.arange(0, BT)[:, None]
    column = tl.arange(0, BW)[None, :]
    return pointer + row * stride + column, (row < T) & (column < W)


@triton.jit
def _weights(q, k, scale, T: tl.constexpr, BT: tl.constexpr):
    """exp(q k^T scale) [BT, BT], the largest of a row 1, and the rows' sums [BT, 1]; float32."""
    scores = tl.dot(q, tl.trans(k)) * (scale * _LOG2_E)
    scores = tl.where(tl.arange(0, BT)[None, :] < T, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return weights, tl.sum(weights, 1)[:, None]


@triton.jit
def _forward(
    qkv, out, scale,
    H: tl.constexpr, T: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H
    d: tl.constexpr = H * W
    base = qkv + window * (T * 3 * d) + head * W
    at, exists = _rows(base, 3 * d, T, W, BT, BW)
    q = tl.load(at, mask=exists, other=0.0)
    k = tl.load(at + d, mask=exists, other=0.0)
    v = tl.load(at + 2 * d, mask=exists, other=0.0)
    weights, total = _weights(q, k, scale, T, BT)
    mixed = tl.dot(weights.to(v.dtype), v) / total
    at, exists = _rows(out + window * (T * d) + head * W, d, T, W, BT, BW)
    tl.store(at, mixed.to(v.dtype), mask=exists)


@triton.jit
def _backward(
    qkv, gradient, out, scale,
    H: tl.constexpr, T: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H
    d: tl.constexpr = H * W
    offset = window * (T * 3 * d) + head * W
    at, exists = _rows(qkv + offset, 3 * d, T, W, BT, BW)
    q = tl.load(at, mask=exists, other=0.0)
    k = tl.load(at + d, mask=exists, other=0.0)
    v = tl.load(at + 2 * d, mask=exists, other=0.0)
    given, exists = _rows(gradient + window * (T * d) + head * W, d, T, W, BT, BW)
    g = tl.load(given, mask=exists, other=0.0)
    weights, total = _weights(q, k, scale, T, BT)
    weights = weights / total
    to, exists = _rows(out + offset, 3 * d, T, W, BT, BW)
    # Rows past the window have weights, but their gradient is 0.
    tl.store(to + 2 * d, tl.dot(tl.trans(weights.to(g.dtype)), g).to(v.dtype), mask=exists)
    change = tl.dot(g, tl.trans(v))
    change = weights * (change - tl.sum(weights * change, 1)[:, None]) * scale
    change = change.to(q.dtype)
    tl.store(to, tl.dot(change, k).to(q.dtype), mask=exists)
    tl.store(to + d, tl.dot(tl.trans(change), q).to(k.dtype), mask=exists)


@triton.jit
def _last_forward(
    query, kv, out, scale,
    H: tl.constexpr, T: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H
    d: tl.constexpr = H * W
    column = tl.arange(0, BW)
    mine = window * d + head * W + column
    at, exists = _rows(kv + window * (T * 2 * d) + head * W, 2 * d, T, W, BT, BW)
    q = tl.load(query + mine, mask=column < W, other=0.0).to(tl.float32)
    k = tl.load(at, mask=exists, other=0.0).to(tl.float32)
    v = tl.load(at + d, mask=exists, other=0.0).to(tl.float32)
    weights = _last_weights(q, k, scale, T, BT)
    mixed = tl.sum(weights[:, None] * v, 0)
    tl.store(out + mine, mixed.to(out.dtype.element_ty), mask=column < W)


@triton.jit
def _last_weights(q, k, scale, T: tl.constexpr, BT: tl.constexpr):
    scores = tl.sum(q[None, :] * k, 1) * (scale * _LOG2_E)
    scores = tl.where(tl.arange(0, BT) < T, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 0))
    return weights / tl.sum(weights, 0)


@triton.jit
def _last_backward(
    query, kv, gradient, out_query, out_kv, scale,
    H: tl.constexpr, T: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H
    d: tl.constexpr = H * W
    column = tl.arange(0, BW)
    mine = window * d + head * W + column
    offset = window * (T * 2 * d) + head * W
    at, exists = _rows(kv + offset, 2 * d, T, W, BT, BW)
    q = tl.load(query + mine, mask=column < W, other=0.0).to(tl.float32)
    g = tl.load(gradient + mine, mask=column < W, other=0.0).to(tl.float32)
    k = tl.load(at, mask=exists, other=0.0).to(tl.float32)
    v = tl.load(at + d, mask=exists, other=0.0).to(tl.float32)
    weights = _last_weights(q, k, scale, T, BT)
    change = tl.sum(g[None, :] * v, 1)
    change = weights * (change - tl.sum(weights * change, 0)) * scale
    kind = out_kv.dtype.element_ty
    tl.store(out_query + mine, tl.sum(change[:, None] * k, 0).to(kind), mask=column < W)
    to, exists = _rows(out_kv + offset, 2 * d, T, W, BT, BW)
    tl.store(to, (change[:, None] * q[None, :]).to(kind), mask=exists)
    tl.store(to + d, (weights[:, None] * g[None, :]).to(kind), mask=exists)


def _sizes(heads: int, rows: int, width: int) -> dict[str, int]:
    # A product on the tensor cores takes 16 rows and columns at least.
    block, wide = (max(16, triton.next_power_of_2(size)) for size in (rows, width))
    return {"H": heads, "T": rows, "W": width, "BT": block, "BW": wide}


def forward(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Contiguous projections [b, T, 3 d], q, k and v in turn -> mixed values [b, T, d]."""
    windows, rows, columns = qkv.shape
    width = columns // (3 * heads)
    out = qkv.new_empty((windows, rows, heads * width))
    sizes = _sizes(heads, rows, width)
    with torch.cuda.device(qkv.device):
        _forward[(windows * heads,)](qkv, out, width**-0.5, **sizes, num_warps=_warps(sizes["BT"]))
    return out


def backward(gradient: torch.Tensor, qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Contiguous gradient [b, T, d] of what ``forward`` gave -> that of ``qkv``."""
    windows, rows, columns = qkv.shape
    width = columns // (3 * heads)
    out = torch.empty_like(qkv)
    sizes = _sizes(heads, rows, width)
    with torch.cuda.device(qkv.device):
        _backward[(windows * heads,)](
            qkv, gradient, out, width**-0.5, **sizes, num_warps=_warps(sizes["BT"])
        )
    return out


def last_forward(query: torch.Tensor, kv: torch.Tensor, heads: int) -> torch.Tensor:
    """One contiguous query [b, d] a window, keys and values [b, T, 2 d] -> mixed values [b, d]."""
    windows, width = len(query), query.shape[1] // heads
    out = torch.empty_like(query)
    sizes = _sizes(heads, kv.shape[1], width)
    with torch.cuda.device(query.device):
        _last_forward[(windows * heads,)](query, kv, out, width**-0.5, **sizes, num_warps=1)
    return out


def last_backward(
    gradient: torch.Tensor, query: torch.Tensor, kv: torch.Tensor, heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contiguous gradient [b, d] of what ``last_forward`` gave -> those of query and kv."""
    windows, width = len(query), query.shape[1] // heads
    out = torch.empty_like(query), torch.empty_like(kv)
    sizes = _sizes(heads, kv.shape[1], width)
    with torch.cuda.device(query.device):
        _last_backward[(windows * heads,)](
            query, kv, gradient, *out, width**-0.5, **sizes, num_warps=1
        )
    return out


def _warps(block: int) -> int:
    return 1 if block <= 32 else 4

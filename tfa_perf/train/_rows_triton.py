# mypy: ignore-errors
"""What an encoder layer does row by row, as Triton kernels: all but attention between windows.

One program has a block of rows, all columns of them: norms, GELU and sums need no memory of
their own. Sums are float32, what is written has the dtype of what is given. Rows lie one behind
the other, or are the last ones of windows of EVERY rows.
"""

import triton
import triton.language as tl

from tfa_perf.train._half_triton import round_block

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _tile(first, rows, d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr):
    """Places of BM rows of d columns, the first one's at 0, and which of them there are."""
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BD)[None, :]
    # Columns that always exist are not asked for: loads stay wide.
    exists = row < rows - first if d == BD else (row < rows - first) & (column < d)
    return row * d + column, exists


@triton.jit
def _weight(pointer, first, stride, N: tl.constexpr, K: tl.constexpr, BN: tl.constexpr,
            BK: tl.constexpr):  # fmt: skip
    """Rows [first, first + BN) of a matrix of N rows of K values ``stride`` apart: [BN, BK]."""
    row, column = first + tl.arange(0, BN)[:, None], tl.arange(0, BK)[None, :]
    at = pointer + row * stride + column
    if N % BN == 0 and K == BK:
        return tl.load(at)
    return tl.load(at, mask=(row < N) & (column < K), other=0.0)


@triton.jit
def _vector(pointer, first, N: tl.constexpr, BN: tl.constexpr):
    column = first + tl.arange(0, BN)
    if N % BN == 0:
        return tl.load(pointer + column).to(tl.float32)[None, :]
    return tl.load(pointer + column, mask=column < N, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _normed(x, eps, d: tl.constexpr, BD: tl.constexpr):
    """Rows x [BM, BD] with mean 0 and variance 1, and what they were multiplied with [BM, 1]."""
    x -= (tl.sum(x, 1) / d)[:, None]
    if d != BD:
        x = tl.where(tl.arange(0, BD)[None, :] < d, x, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, 1) / d + eps)[:, None]
    return x * scale, scale


@triton.jit
def _normed_gradient(gradient, normed, scale, weight, d: tl.constexpr):
    """Of what `_normed` was given, from that of its result times ``weight``."""
    gradient *= weight
    mean = (tl.sum(gradient, 1) / d)[:, None]
    along = (tl.sum(gradient * normed, 1) / d)[:, None]
    return scale * (gradient - mean - normed * along)


@triton.jit
def _gelu(x):
    """GELU and its derivative. Erf is Abramowitz and Stegun's 7.1.26, within 1.5e-7."""
    bell = tl.exp2(x * x * (-0.5 * _LOG2_E))
    # A square root's reciprocal is one instruction, a quotient many.
    root = tl.rsqrt(1.0 + (0.3275911 * 0.7071067811865476) * tl.abs(x))
    t = root * root
    # Half of the polynomial: half of what is beyond |x|.
    tail = 0.7107068705 + t * (-0.7265760135 + t * 0.5307027145)
    tail = t * (0.127414796 + t * (-0.142248368 + t * tail)) * bell
    # The normal distribution up to x.
    below = tl.where(x < 0, tail, 1.0 - tail)
    return x * below, below + x * bell * 0.3989422804014327


@triton.jit(do_not_specialize=["rows"])
def project(
    x, weight, bias, out_x, out, rows, window_stride, row_stride,
    T: tl.constexpr, F: tl.constexpr, d: tl.constexpr,
    others, shapes: tl.constexpr, halves, SPACED: tl.constexpr,
    BM: tl.constexpr, BF: tl.constexpr, BD: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Rows of d columns; and x in their dtype, with 0 up to BF columns, unless it is SPACED.

    The programs behind those of the rows have a block each of ``others`` to round to ``halves``.
    """
    blocks = tl.cdiv(rows, BM)
    if tl.program_id(0) >= blocks:
        round_block(tl.program_id(0) - blocks, others, shapes, halves, VALUES)
    else:
        kind = out.dtype.element_ty
        first = tl.program_id(0) * BM
        row, column = first + tl.arange(0, BM)[:, None], tl.arange(0, BF)[None, :]
        spaced_at, spaced_exists = _tile(first, rows, BF, BM, BF)
        spaced_at += first.to(tl.int64) * BF
        if SPACED:
            # All that a row has is loaded, and what does not count then left out: loads stay wide.
            features = tl.load(x + spaced_at, mask=spaced_exists, other=0.0)
            features = tl.where(column < F, features, 0.0)
        else:
            at = (row // T).to(tl.int64) * window_stride + (row % T) * row_stride
            features = tl.load(x + at + column, mask=(row < rows) & (column < F), other=0.0)
            features = features.to(kind)
            tl.store(out_x + spaced_at, features, mask=spaced_exists)
        w = _weight(weight, 0, F, d, F, BD, BF).to(kind)
        made = tl.dot(features, tl.trans(w)) + _vector(bias, 0, d, BD)
        at, exists = _tile(first, rows, d, BM, BD)
        tl.store(out + first.to(tl.int64) * d + at, made.to(kind), mask=exists)


@triton.jit(do_not_specialize=["rows"])
def before(
    x, norm_weight, norm_bias, weight, bias, query, out, rows, eps,
    d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Norm and projection: queries, keys and values [rows, 3 d].

    With LAST rows a window, ``query`` [windows, d] has those of last rows, and ``out`` [rows, 2 d]
    the rest.
    """
    # Loaded once: they stay in shared memory, as a program goes on to other rows.
    of_query = tl.trans(_weight(weight, 0, d, d, d, BD, BD))
    of_key = tl.trans(_weight(weight + d * d, 0, d, d, d, BD, BD))
    of_value = tl.trans(_weight(weight + 2 * d * d, 0, d, d, d, BD, BD))
    kind = out.dtype.element_ty
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BD)[None, :]
    wide: tl.constexpr = 2 * d if LAST else 3 * d
    for first in range(tl.program_id(0) * BM, rows, tl.num_programs(0) * BM):
        at, exists = _tile(first, rows, d, BM, BD)
        h = tl.load(x + tl.cast(first, tl.int64) * d + at, mask=exists, other=0.0)
        normed = _normed(h.to(tl.float32), eps, d, BD)[0]
        normed = normed * _vector(norm_weight, 0, d, BD) + _vector(norm_bias, 0, d, BD)
        normed = normed.to(kind)
        to = out + tl.cast(first, tl.int64) * wide + row * wide + column
        made = (tl.dot(normed, of_query) + _vector(bias, 0, d, BD)).to(kind)
        if LAST:
            place, is_last = _last(first + row, column, exists, d, LAST)
            tl.store(query + place, made, mask=is_last)
        else:
            tl.store(to, made, mask=exists)
            to += d
        made = (tl.dot(normed, of_key) + _vector(bias + d, 0, d, BD)).to(kind)
        tl.store(to, made, mask=exists)
        made = (tl.dot(normed, of_value) + _vector(bias + 2 * d, 0, d, BD)).to(kind)
        tl.store(to + d, made, mask=exists)


@triton.jit
def _last(row, column, exists, d: tl.constexpr, T: tl.constexpr):
    """Places among last rows, one behind the other, and which of ``row`` are last in a window."""
    return (row // T).to(tl.int64) * d + column, exists & (row % T == T - 1)


@triton.jit(do_not_specialize=["rows"])
def before_gradient(
    query, gradient, passed, x, norm_weight, weight, out, out_normed, rows, eps,
    d: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Gradient of x from those of what `before` gave and of x ``passed`` on; and x normed.

    With LAST, ``query`` and ``passed`` are of last rows alone.
    """
    of_query = _weight(weight, 0, d, d, d, BD, BD)
    of_key = _weight(weight + d * d, 0, d, d, d, BD, BD)
    of_value = _weight(weight + 2 * d * d, 0, d, d, d, BD, BD)
    kind = out.dtype.element_ty
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BD)[None, :]
    wide: tl.constexpr = 2 * d if LAST else 3 * d
    for first in range(tl.program_id(0) * BM, rows, tl.num_programs(0) * BM):
        at, exists = _tile(first, rows, d, BM, BD)
        at += tl.cast(first, tl.int64) * d
        source = gradient + tl.cast(first, tl.int64) * wide + row * wide + column
        if LAST:
            place, is_last = _last(first + row, column, exists, d, LAST)
            change = tl.dot(tl.load(query + place, mask=is_last, other=0.0), of_query)
        else:
            change = tl.dot(tl.load(source, mask=exists, other=0.0), of_query)
            source += d
        change = tl.dot(tl.load(source, mask=exists, other=0.0), of_key, change)
        change = tl.dot(tl.load(source + d, mask=exists, other=0.0), of_value, change)
        h = tl.load(x + at, mask=exists, other=0.0).to(tl.float32)
        normed, scale = _normed(h, eps, d, BD)
        tl.store(out_normed + at, normed.to(kind), mask=exists)
        change = _normed_gradient(change, normed, scale, _vector(norm_weight, 0, d, BD), d)
        if LAST:
            place, is_last = _last(first + row, column, exists, d, LAST)
            through = tl.load(passed + place, mask=is_last, other=0.0)
        else:
            through = tl.load(passed + at, mask=exists, other=0.0)
        tl.store(out + at, (change + through.to(tl.float32)).to(kind), mask=exists)


@triton.jit(do_not_specialize=["rows"])
def after(
    x, mixed, output, output_bias, norm_weight, norm_bias, w1, b1, w2, b2, out_middle, out,
    rows, eps,
    d: tl.constexpr, hidden: tl.constexpr, EVERY: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Output projection, sum, norm and feed-forward of ``mixed``, and what goes into the norm.

    ``mixed`` has a row for every EVERY-th of x.
    """
    first = tl.program_id(0) * BM
    at, exists = _tile(first, rows, d, BM, BD)
    offset = first.to(tl.int64) * d
    kind = out.dtype.element_ty
    given = tl.load(mixed + offset + at, mask=exists, other=0.0)
    middle = tl.dot(given, tl.trans(_weight(output, 0, d, d, d, BD, BD)))
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BD)[None, :]
    x += (first.to(tl.int64) * EVERY + (EVERY - 1)) * d
    h = tl.load(x + row * (EVERY * d) + column, mask=exists, other=0.0)
    middle = (middle + _vector(output_bias, 0, d, BD) + h.to(tl.float32)).to(kind)
    tl.store(out_middle + offset + at, middle, mask=exists)
    middle = middle.to(tl.float32)
    normed = _normed(middle, eps, d, BD)[0]
    normed = normed * _vector(norm_weight, 0, d, BD) + _vector(norm_bias, 0, d, BD)
    normed = normed.to(kind)
    made = middle + _vector(b2, 0, d, BD)
    for part in range(0, hidden, BH):
        inner = tl.dot(normed, tl.trans(_weight(w1, part, d, hidden, d, BH, BD)))
        inner = _gelu(inner + _vector(b1, part, hidden, BH))[0]
        w = _weight(w2 + part, 0, hidden, d, BH, BD, BH)
        made = tl.dot(inner.to(kind), tl.trans(w), made)
    tl.store(out + offset + at, made.to(kind), mask=exists)


@triton.jit(do_not_specialize=["rows"])
def after_gradient(
    gradient, middle, output, norm_weight, norm_bias, w1, b1, w2,
    out, out_mixed, out_normed, out_inner, out_gelu, rows, eps,
    d: tl.constexpr, hidden: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Gradients of ``middle`` and ``mixed``, and what those of the weights are made of."""
    first = tl.program_id(0) * BM
    at, exists = _tile(first, rows, d, BM, BD)
    offset = first.to(tl.int64) * d
    kind = out.dtype.element_ty
    middle += offset
    h = tl.load(middle + at, mask=exists, other=0.0).to(tl.float32)
    given = tl.load(gradient + offset + at, mask=exists, other=0.0)
    weight = _vector(norm_weight, 0, d, BD)
    normed = _normed(h, eps, d, BD)[0]
    tl.store(out_normed + offset + at, normed.to(kind), mask=exists)
    into = (normed * weight + _vector(norm_bias, 0, d, BD)).to(kind)
    change = tl.zeros((BM, BD), tl.float32)
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BH)[None, :]
    inside, some = row * hidden + column, row < rows - first
    out_gelu += first.to(tl.int64) * hidden
    out_inner += first.to(tl.int64) * hidden
    for part in range(0, hidden, BH):
        w = _weight(w1, part, d, hidden, d, BH, BD)
        value, slope = _gelu(tl.dot(into, tl.trans(w)) + _vector(b1, part, hidden, BH))
        tl.store(out_gelu + part + inside, value.to(kind), mask=some)
        inner = tl.dot(given, _weight(w2 + part, 0, hidden, d, BH, BD, BH)) * slope
        inner = inner.to(kind)
        tl.store(out_inner + part + inside, inner, mask=some)
        change = tl.dot(inner, w, change)
    # Once more, so that the registers are free meanwhile.
    h = tl.load(middle + at, mask=exists, other=0.0).to(tl.float32)
    normed, scale = _normed(h, eps, d, BD)
    change = _normed_gradient(change, normed, scale, weight, d)
    change += tl.load(gradient + offset + at, mask=exists, other=0.0).to(tl.float32)
    change = change.to(kind)
    tl.store(out + offset + at, change, mask=exists)
    of_mixed = tl.dot(change, _weight(output, 0, d, d, d, BD, BD))
    tl.store(out_mixed + offset + at, of_mixed.to(kind), mask=exists)

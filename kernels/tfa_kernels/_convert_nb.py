# mypy: ignore-errors
"""Window gather with a conversion of every value: pure loops, no validation."""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils

from tfa_kernels._jit import compiled, inline_kernel, parallel_kernel
from tfa_kernels._memory_nb import LINE, byte_pointer, copy_bytes, finish_streaming, prefetch
from tfa_kernels._windows_nb import copy_label

FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = 0, 1, 2, 3

# Values converted at once: a whole line of the narrowest format, because half of one written past
# the caches at a time is slow.
LANES = 32


def _convert_twin(out, to, out_kind, source, at, source_kind, shift, factor, column, stream):
    formats = (np.float32, np.float64, np.float16, np.uint16)
    size = LANES * np.dtype(formats[source_kind]).itemsize
    values = source[at : at + size].view(formats[source_kind])
    if source_kind == BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    values = values.astype(np.float32)
    if shift.size:
        values = (values - shift[column : column + LANES]) * factor[column : column + LANES]
    if out_kind == BFLOAT16:
        bits = values.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
        values = np.where(np.isnan(values), np.uint32(0x7FC0), rounded)
    converted = values.astype(formats[out_kind]).view(np.uint8)
    out[to : to + converted.size] = converted


def _vector(element):
    return ir.VectorType(element, LANES)


def _splat(element, value):
    return ir.Constant(_vector(element), [value] * LANES)


_SINGLE, _DOUBLE, _HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
_WORD, _SHORT = ir.IntType(32), ir.IntType(16)
_STORED = (_SINGLE, _DOUBLE, _HALF, _SHORT)


def _widened(builder, value, kind):
    if kind == FLOAT64:
        return builder.fptrunc(value, _vector(_SINGLE))
    if kind == FLOAT16:
        return builder.fpext(value, _vector(_SINGLE))
    if kind == BFLOAT16:
        bits = builder.shl(builder.zext(value, _vector(_WORD)), _splat(_WORD, 16))
        return builder.bitcast(bits, _vector(_SINGLE))
    return value


def _narrowed(builder, value, kind):
    if kind == FLOAT64:
        return builder.fpext(value, _vector(_DOUBLE))
    if kind == FLOAT16:
        return builder.bitcast(builder.fptrunc(value, _vector(_HALF)), _vector(_SHORT))
    if kind == BFLOAT16:
        # To nearest even; a NaN stays one instead of rounding up to infinity.
        bits = builder.bitcast(value, _vector(_WORD))
        upper = builder.lshr(bits, _splat(_WORD, 16))
        odd = builder.and_(upper, _splat(_WORD, 1))
        rounded = builder.add(builder.add(bits, _splat(_WORD, 0x7FFF)), odd)
        rounded = builder.lshr(rounded, _splat(_WORD, 16))
        nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(nan, _splat(_WORD, 0x7FC0), rounded), _vector(_SHORT))
    return value


@compiled(twin=_convert_twin)
def convert(
    typing_context, out, to, out_kind, source, at, source_kind, shift, factor, column, stream
):
    """Convert LANES values from byte ``at`` of source to byte ``to`` of out, in float32.

    They are scaled by ``(value - shift) * factor`` from element ``column`` on unless ``shift`` is
    empty. ``stream`` writes past the caches; ``to`` is then aligned to what is written.
    """

    def generate(context, builder, signature, values):
        (to_array, to_byte, to_kind, from_array, from_byte, from_kind) = values[:6]
        shifts, factors, first, past_caches = values[6:]
        given = byte_pointer(context, builder, source, from_array, from_byte)
        target = byte_pointer(context, builder, out, to_array, to_byte)
        register = cgutils.alloca_once(builder, _vector(_SINGLE))

        def is_kind(given_kind, kind):
            return builder.icmp_signed("==", given_kind, ir.Constant(given_kind.type, kind))

        for kind, stored in enumerate(_STORED):
            with builder.if_then(is_kind(from_kind, kind)):
                pointer = builder.bitcast(given, _vector(stored).as_pointer())
                value = builder.load(pointer, align=1)
                builder.store(_widened(builder, value, kind), register)

        size = cgutils.unpack_tuple(
            builder, context.make_array(shift)(context, builder, shifts).shape
        )[0]
        with builder.if_then(builder.icmp_signed(">", size, ir.Constant(size.type, 0))):
            operands = []
            for kind, array in ((shift, shifts), (factor, factors)):
                data = context.make_array(kind)(context, builder, array).data
                pointer = builder.gep(data, [first])
                pointer = builder.bitcast(pointer, _vector(_SINGLE).as_pointer())
                operands.append(builder.load(pointer, align=4))
            value = builder.fsub(builder.load(register), operands[0])
            builder.store(builder.fmul(value, operands[1]), register)

        def write(value):
            pointer = builder.bitcast(target, value.type.as_pointer())
            with builder.if_else(past_caches) as (streamed, cached):
                with streamed:
                    store = builder.store(value, pointer, align=LINE)
                    one = ir.Constant(_WORD, 1)
                    store.set_metadata("nontemporal", builder.module.add_metadata([one]))
                with cached:
                    builder.store(value, pointer, align=1)

        for kind in (FLOAT32, FLOAT64):
            with builder.if_then(is_kind(to_kind, kind)):
                write(_narrowed(builder, builder.load(register), kind))
        # Both formats of two bytes by one store of integers: there is no store of half-precision
        # vectors past the caches, the compiler makes a plain one of it.
        bits = cgutils.alloca_once(builder, _vector(_SHORT))
        for kind in (FLOAT16, BFLOAT16):
            with builder.if_then(is_kind(to_kind, kind)):
                builder.store(_narrowed(builder, builder.load(register), kind), bits)
        with builder.if_then(
            builder.icmp_signed(">=", to_kind, ir.Constant(to_kind.type, FLOAT16))
        ):
            write(builder.load(bits))
        return context.get_dummy_value()

    arguments = (out, to, out_kind, source, at, source_kind, shift, factor, column, stream)
    return types.void(*arguments), generate


@inline_kernel
def _convert_few(out, to, out_kind, out_bytes, flat, at, kind, size, shift, factor, column, pad):
    # Fewer than LANES values: through a scratch line, so that nothing beyond them is touched.
    half = pad.size // 2
    copy_bytes(pad, 0, flat, at, size)
    convert(pad, half, out_kind, pad, 0, kind, shift, factor, column, False)
    copy_bytes(out, to, pad, half, out_bytes)


@parallel_kernel
def gather_converted(
    flat, kind, source_bytes, starts, row, window, shift, factor, group, stream,
    out, out_kind, out_bytes, labels, label_row, label_bytes, label_out,
):  # fmt: skip
    """``out[i] = (X[starts[i] : starts[i] + T] - shift) * factor``, in another format.

    ``flat`` and ``out`` are bytes; ``row`` and ``window`` count values, of ``source_bytes`` and
    ``out_bytes`` each. The arithmetic is float32; ``shift`` and ``factor`` hold ``window + LANES``
    values, or none at all where nothing is scaled. Labels as for `gather`.
    """
    count = starts.size
    for b in prange((count + group - 1) // group):
        pad = np.empty(2 * LANES * 8, np.uint8)
        first = np.int64(b) * group
        for i in range(first, min(first + group, count)):
            following = starts[min(i + 1, count - 1)]
            at, ahead = starts[i] * row * source_bytes, following * row * source_bytes
            if label_bytes:
                of_this = starts[i] + label_row
                copy_label(label_out, i, labels, of_this, following + label_row, label_bytes)
            to = i * window * out_bytes
            # Streaming starts where out is aligned.
            done = (LINE - (out.ctypes.data + to) % LINE) % LINE // out_bytes if stream else 0
            done = min(done, window)
            left = done
            while left > 0:
                size = min(LANES, left)
                k = done - left
                _convert_few(
                    out, to + k * out_bytes, out_kind, size * out_bytes,
                    flat, at + k * source_bytes, kind, size * source_bytes,
                    shift, factor, k, pad,
                )  # fmt: skip
                left -= size
            for line in range(0, done * source_bytes, LINE):
                prefetch(flat, ahead + line)
            while done + LANES <= window:
                for line in range(0, LANES * source_bytes, LINE):
                    prefetch(flat, ahead + done * source_bytes + line)
                convert(
                    out, to + done * out_bytes, out_kind,
                    flat, at + done * source_bytes, kind, shift, factor, done, stream,
                )  # fmt: skip
                done += LANES
            if done < window:
                _convert_few(
                    out, to + done * out_bytes, out_kind, (window - done) * out_bytes,
                    flat, at + done * source_bytes, kind, (window - done) * source_bytes,
                    shift, factor, done, pad,
                )  # fmt: skip
        if stream:
            finish_streaming()

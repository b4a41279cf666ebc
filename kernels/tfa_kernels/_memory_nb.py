# mypy: ignore-errors
"""Memory as caches have it: arrays on their lines, prefetch, and copies past them.

Arrays are flat and contiguous; nothing is checked.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tfa_kernels._jit import compiled, inline_kernel

LINE = 64


def on_lines(size):
    """Float32 that begin with a line of the caches: no vector of 16 lies in two of them."""
    room = np.empty(size + LINE // 4 - 1, np.float32)
    first = (LINE - room.ctypes.data % LINE) % LINE // 4
    return room[first : first + size]


scratch = inline_kernel(on_lines)


def byte_pointer(context, builder, array_type, array, offset):
    """For the code of an intrinsic: where element ``offset`` of an array is."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), ir.IntType(8).as_pointer())


@compiled(twin=lambda array, offset: None)
def prefetch(typing_context, array, offset):
    """Ask for the line of an element in the second-level cache; it may be past the end."""

    def generate(context, builder, signature, values):
        word = ir.IntType(32)
        pointer = byte_pointer(context, builder, array, *values)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        read, second_level, data = word(0), word(2), word(1)
        builder.call(function, [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, offset), generate


def _copy_twin(out, to, source, at, size):
    out[to : to + size] = source[at : at + size]


@compiled(twin=_copy_twin)
def copy_bytes(typing_context, out, to, source, at, size):
    """Copy ``size`` bytes from byte ``at`` of source to byte ``to`` of out."""

    def generate(context, builder, signature, values):
        target = byte_pointer(context, builder, out, *values[:2])
        cgutils.raw_memcpy(
            builder, target, byte_pointer(context, builder, source, *values[2:4]), values[4], 1
        )
        return context.get_dummy_value()

    return types.void(out, to, source, at, size), generate


@compiled(twin=lambda out, to, source, at: _copy_twin(out, to, source, at, LINE))
def stream_line(typing_context, out, to, source, at):
    """Copy one line past the caches; byte ``to`` of out is aligned to a line."""

    def generate(context, builder, signature, values):
        line = ir.VectorType(ir.IntType(32), LINE // 4).as_pointer()
        target = builder.bitcast(byte_pointer(context, builder, out, *values[:2]), line)
        given = builder.bitcast(byte_pointer(context, builder, source, *values[2:]), line)
        store = builder.store(builder.load(given, align=1), target, align=LINE)
        one = ir.Constant(ir.IntType(32), 1)
        store.set_metadata("nontemporal", builder.module.add_metadata([one]))
        return context.get_dummy_value()

    return types.void(out, to, source, at), generate


@compiled(twin=lambda: None)
def finish_streaming(typing_context):
    """Order the streamed lines before everything that this thread writes next."""

    def generate(context, builder, signature, values):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate

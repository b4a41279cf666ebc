# mypy: ignore-errors
"""A tile of a product of matrices, whose sums stay in registers while the operands go by.

Operands are tuples: a flat array, where the tile's part begins in it, and the steps to the next
row and column of the left one, to the next row of the others. ``begin`` is what the sums begin
with: rows, a bias for all of them (an array, and where it begins), and which of these count.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tfa_kernels._jit import compiled
from tfa_kernels._lanes_nb import _address, _llvm_call, _packed
from tfa_kernels._vectors_nb import FLOAT32, WIDTH

NOTHING, ROWS, ROWS_AND_BIAS = range(3)
_INTEGER = ir.IntType(64)


def tile(rows, vectors):
    """An operation for compiled code, ``(a, b, depth, begin, sums)``, on tiles of one size.

    sums[m, n] = begin[m, n] + sum over k < depth of a[m, k] b[k, n], for ``rows`` rows and so many
    ``vectors`` of columns.
    """

    def twin(a, b, depth, begin, sums):
        left, at, row, step = a
        right, by, next_by = b
        (given, start, next_start), (bias, of_bias), kind = begin
        out, to, next_to = sums
        width = vectors * WIDTH
        for m in range(rows):
            made = np.zeros(width, np.float32)
            if kind != NOTHING:
                first = start + m * next_start
                made = given[first : first + width]
            if kind == ROWS_AND_BIAS:
                made = made + bias[of_bias : of_bias + width]
            for k in range(depth):
                first = by + k * next_by
                made = made + left[at + m * row + k * step] * right[first : first + width]
            first = to + m * next_to
            out[first : first + width] = made

    @compiled(twin=twin)
    def operation(typing_context, a, b, depth, begin, sums):
        def generate(context, builder, signature, args):
            (left, at, row, step), (right, by, next_by), begin, (out, to, next_to) = (
                cgutils.unpack_tuple(builder, args[i]) for i in (0, 1, 3, 4)
            )
            of_left, of_right, of_out = (signature.args[i].types[0] for i in (0, 1, 4))
            of_given, of_bias = (kind.types[0] for kind in signature.args[3].types[:2])
            given, start, next_start = cgutils.unpack_tuple(builder, begin[0])
            bias, bias_at = cgutils.unpack_tuple(builder, begin[1])
            vector = context.get_value_type(FLOAT32)

            def steps(step, count):
                return builder.mul(step, ir.Constant(_INTEGER, count))

            def places(kind, array, at):
                """Addresses of the vectors that lie side by side at an index."""
                first = _address(context, builder, kind, array, at)
                first = builder.bitcast(first, vector.as_pointer())
                return [builder.gep(first, [ir.Constant(_INTEGER, v)]) for v in range(vectors)]

            def all_places(kind, array, at, step):
                return [
                    place
                    for m in range(rows)
                    for place in places(kind, array, builder.add(at, steps(step, m)))
                ]

            def counts(kind):
                return builder.icmp_signed("==", begin[2], ir.Constant(_INTEGER, kind))

            kept = [cgutils.alloca_once(builder, vector) for _ in range(rows * vectors)]
            with builder.if_else(counts(NOTHING)) as (then, otherwise):
                with then:
                    for register in kept:
                        builder.store(ir.Constant(vector, None), register)
                with otherwise:
                    found = all_places(of_given, given, start, next_start)
                    for place, register in zip(found, kept, strict=True):
                        builder.store(builder.load(place, align=4), register)
            with builder.if_then(counts(ROWS_AND_BIAS)):
                for v, place in enumerate(places(of_bias, bias, bias_at)):
                    added = builder.load(place, align=4)
                    for register in kept[v::vectors]:
                        builder.store(builder.fadd(builder.load(register), added), register)
            with cgutils.for_range(builder, args[2]) as loop:
                first = builder.add(by, builder.mul(loop.index, next_by))
                row_of_b = [builder.load(p, align=4) for p in places(of_right, right, first)]
                first = builder.add(at, builder.mul(loop.index, step))
                for m in range(rows):
                    place = builder.add(first, steps(row, m))
                    factor = builder.load(_address(context, builder, of_left, left, place))
                    spread = _packed(builder, [factor] * WIDTH)
                    for v, values in enumerate(row_of_b):
                        register = kept[m * vectors + v]
                        product = [spread, values, builder.load(register)]
                        builder.store(_llvm_call(builder, "fmuladd", "f32", product), register)
            for place, register in zip(all_places(of_out, out, to, next_to), kept, strict=True):
                builder.store(builder.load(register), place, align=4)
            return context.get_dummy_value()

        return types.void(a, b, types.int64, begin, sums), generate

    return operation

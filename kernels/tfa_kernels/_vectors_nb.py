# mypy: ignore-errors
"""Eight or sixteen float32 in one vector register, read from and written to flat arrays.

What a product of small matrices needs: partial sums that stay in registers while rows go by. The
arrays are contiguous and nothing is checked. Without JIT, numpy arrays stand for vectors.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_borrowed

from tfa_kernels._jit import VECTOR_WIDTH, compiled
from tfa_kernels._lanes_nb import BLOCK, Lanes, _address, _llvm_call, _packed, _transposed8

WIDTH = VECTOR_WIDTH
FLOAT32 = Lanes("float32", WIDTH)

# For powers of e as powers of 2.
LOG2_E = np.float32(math.log2(math.e))

_INTEGERS = ir.VectorType(ir.IntType(32), WIDTH)
# 2 ** x on [-1/2, 1/2], by interpolation in Chebyshev's points: 1e-8 of the value at most, which
# is less than float32 resolves.
_POINTS = np.cos(np.pi * (np.arange(7) + 0.5) / 7) / 2
_EXP2 = tuple(float(c) for c in np.polyfit(_POINTS, np.exp2(_POINTS), 6))
_LEAST_EXPONENT = -126.0
_MANTISSA_BITS = 23
_WHOLE = 1.5 * 2**_MANTISSA_BITS + 127


@compiled(twin=lambda array: array)
def own(typing_context, array):
    """The array, as the type of those that may be written to: for callees that read it."""
    kind = types.Array(array.dtype, array.ndim, array.layout)

    def generate(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, kind, args[0])

    return kind(array), generate


@compiled(twin=lambda value: np.full(WIDTH, value, np.float32))
def spread(typing_context, value):
    """One float32 in all places."""

    def generate(context, builder, signature, args):
        return _packed(builder, [args[0]] * WIDTH)

    return FLOAT32(types.float32), generate


@compiled(twin=lambda array, i: array[i : i + WIDTH].copy())
def load(typing_context, array, i):
    """Elements of the array from i on."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, array, *args)
        vector = context.get_value_type(FLOAT32).as_pointer()
        return builder.load(builder.bitcast(address, vector), align=4)

    return FLOAT32(array, types.int64), generate


def _store_twin(array, i, vector):
    array[i : i + WIDTH] = vector


@compiled(twin=_store_twin)
def store(typing_context, array, i, vector):
    """The vector to elements of the array from i on."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, array, *args[:2])
        address = builder.bitcast(address, args[2].type.as_pointer())
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, FLOAT32), generate


@compiled(twin=lambda a, b, c: a * b + c)
def multiply_add(typing_context, a, b, c):
    """a * b + c, rounded once where the processor can."""

    def generate(context, builder, signature, args):
        return _llvm_call(builder, "fmuladd", "f32", args)

    return FLOAT32(FLOAT32, FLOAT32, FLOAT32), generate


@compiled(twin=np.maximum)
def largest(typing_context, a, b):
    """The larger of both; b where one is a NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return FLOAT32(FLOAT32, FLOAT32), generate


@compiled(twin=lambda x: np.exp2(np.maximum(x, np.float32(_LEAST_EXPONENT))))
def exp2(typing_context, x):
    """2 ** x for x up to 127; 2 ** -126 for all that is less, NaN for NaN."""

    def generate(context, builder, signature, args):
        (x,) = args

        def every(value):
            return ir.Constant(x.type, [value] * WIDTH)

        low = builder.fcmp_ordered("<", x, every(_LEAST_EXPONENT))
        x = builder.select(low, every(_LEAST_EXPONENT), x)
        # So large that its last place is 1: a sum with it is rounded to whole numbers, which its
        # lowest bits hold, with the bias of an exponent.
        rounded = builder.fadd(x, every(_WHOLE))
        part = builder.fsub(x, builder.fsub(rounded, every(_WHOLE)))
        value = every(np.float32(_EXP2[0]))
        for coefficient in _EXP2[1:]:
            value = _llvm_call(builder, "fmuladd", "f32", [value, part, every(coefficient)])
        bits = builder.bitcast(rounded, _INTEGERS)
        bits = builder.shl(bits, ir.Constant(_INTEGERS, [_MANTISSA_BITS] * WIDTH))
        return builder.fmul(value, builder.bitcast(bits, x.type))

    return FLOAT32(FLOAT32), generate


@compiled(twin=lambda x, a, b: np.where(x > 0, a, b))
def where_positive(typing_context, x, a, b):
    """a in the places where x is above 0, b in the others."""

    def generate(context, builder, signature, args):
        x, a, b = args
        above = builder.fcmp_ordered(">", x, ir.Constant(x.type, [0.0] * WIDTH))
        return builder.select(above, a, b)

    return FLOAT32(FLOAT32, FLOAT32, FLOAT32), generate


@compiled(twin=lambda x: x.sum(dtype=np.float32))
def total(typing_context, x):
    """The sum of all places, halves added to each other."""

    def generate(context, builder, signature, args):
        (x,) = args
        places = [builder.extract_element(x, ir.Constant(ir.IntType(32), i)) for i in range(WIDTH)]
        while len(places) > 1:
            half = len(places) // 2
            places = [builder.fadd(places[i], places[i + half]) for i in range(half)]
        return places[0]

    return types.float32(FLOAT32), generate


def _turn_twin(source, i, stride, out, j, out_stride):
    for step in range(BLOCK):
        taken = source[i + step : i + step + BLOCK * stride : stride]
        out[j + step * out_stride : j + step * out_stride + BLOCK] = taken


@compiled(twin=_turn_twin)
def turn(typing_context, source, i, stride, out, j, out_stride):
    """Eight rows of eight at i of the source, ``stride`` apart, as columns at j of out."""

    def generate(context, builder, signature, args):
        source, i, stride, out, j, out_stride = args
        kinds = signature.args
        vector = ir.VectorType(ir.FloatType(), BLOCK).as_pointer()

        def at(array_type, array, first, apart, step):
            index = builder.add(first, builder.mul(apart, ir.Constant(apart.type, step)))
            return builder.bitcast(_address(context, builder, array_type, array, index), vector)

        rows = [
            builder.load(at(kinds[0], source, i, stride, step), align=4) for step in range(BLOCK)
        ]
        for step, row in enumerate(_transposed8(builder, rows)):
            builder.store(row, at(kinds[3], out, j, out_stride, step), align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(source, integer, integer, out, integer, integer), generate

# mypy: ignore-errors
"""Four columns in one vector register.

A recursion waits for its own last result, and a column of it cannot be vector code. Four columns
over one source can: each is a lane. These are the vector types and the operations that compiled
code needs for that, in LLVM's own vectors, which every processor has some code for. Lane by lane
they round as the scalar operations do. Without JIT, numpy arrays of four stand for them.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

from tfa_kernels._jit import compiled

LANES = 4

_LLVM = {"float64": ir.DoubleType(), "float32": ir.FloatType(), "mask": ir.IntType(1)}


class Lanes(types.Type):
    """``count`` values of one type of number, or a mask of them."""

    def __init__(self, element, count=LANES):
        self.element, self.count = element, count
        super().__init__(name=f"lanes({element}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, data_model_manager, lanes):
        super().__init__(
            data_model_manager, lanes, ir.VectorType(_LLVM[lanes.element], lanes.count)
        )


FLOAT64, MASK = Lanes("float64"), Lanes("mask")


def _operator(function, emit, to_mask=False):
    @type_callable(function)
    def typed(context):
        def typer(a, b):
            if isinstance(a, Lanes) and a == b and (a != MASK or function is operator.or_):
                return MASK if to_mask else a
            return None

        return typer

    @lower_builtin(function, Lanes, Lanes)
    def lowered(context, builder, signature, args):
        return emit(builder, *args)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
_operator(operator.or_, lambda builder, a, b: builder.or_(a, b))
_operator(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), to_mask=True)


def _llvm_call(builder, name, kind, args):
    vector = args[0].type
    function_type = ir.FunctionType(vector, [vector] * len(args))
    suffix = f"v{vector.count}{kind}"
    callee = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(callee, args)


def _packed(builder, values):
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
    return vector


def _shuffled(builder, a, b, order):
    kind = ir.IntType(32)
    mask = ir.Constant(ir.VectorType(kind, len(order)), [ir.Constant(kind, i) for i in order])
    return builder.shuffle_vector(a, b, mask)


@compiled(twin=lambda value: np.full(LANES, value))
def splat(typing_context, value):
    """One float64 in every lane."""

    def codegen(context, builder, signature, args):
        return _packed(builder, [args[0]] * LANES)

    return FLOAT64(types.float64), codegen


@compiled(twin=lambda a, b, c, d: np.array([a, b, c, d]))
def lanes(typing_context, a, b, c, d):
    """A float64 for each lane."""

    def codegen(context, builder, signature, args):
        return _packed(builder, args)

    return FLOAT64(types.float64, types.float64, types.float64, types.float64), codegen


@compiled(twin=lambda vector, i: vector[i])
def lane(typing_context, vector, i):
    """The i-th float64, or the i-th truth value of a mask."""
    scalar = types.boolean if vector == MASK else types.float64

    def codegen(context, builder, signature, args):
        return builder.extract_element(args[0], args[1])

    return scalar(vector, types.int64), codegen


@compiled(twin=lambda a, b, c: a * b + c)
def fma(typing_context, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return _llvm_call(builder, "fma", "f64", args)

    return FLOAT64(FLOAT64, FLOAT64, FLOAT64), codegen


@compiled(twin=operator.neg)
def negative(typing_context, vector):
    def codegen(context, builder, signature, args):
        return builder.fneg(args[0])

    return FLOAT64(FLOAT64), codegen


@compiled(twin=lambda mask, a, b: np.where(mask, a, b))
def select(typing_context, mask, a, b):
    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return FLOAT64(MASK, FLOAT64, FLOAT64), codegen


@compiled(twin=lambda a, b: ~(a >= b))
def not_at_least(typing_context, a, b):
    """Not a >= b; so a NaN counts as failing."""

    def codegen(context, builder, signature, args):
        return builder.fcmp_unordered("<", *args)

    return MASK(FLOAT64, FLOAT64), codegen


def _coarse_inverse_roots_twin(*vectors):
    with np.errstate(all="ignore"):
        return tuple(
            (np.float32(1.0) / np.sqrt(v.astype(np.float32))).astype(np.float64) for v in vectors
        )


@compiled(twin=_coarse_inverse_roots_twin)
def coarse_inverse_roots(typing_context, a, b, c, d):
    """1 / sqrt in float32, as float64; four at once, because roots and divisions are slow."""

    def codegen(context, builder, signature, args):
        half = ir.VectorType(ir.FloatType(), LANES)
        a, b, c, d = (builder.fptrunc(vector, half) for vector in args)
        pairs = [_shuffled(builder, *pair, range(2 * LANES)) for pair in ((a, b), (c, d))]
        wide = _shuffled(builder, *pairs, range(4 * LANES))
        root = _llvm_call(builder, "sqrt", "f32", [wide])
        inverse = builder.fdiv(ir.Constant(wide.type, [1.0] * (4 * LANES)), root)
        parts = [
            _shuffled(builder, inverse, inverse, range(i * LANES, (i + 1) * LANES))
            for i in range(4)
        ]
        results = [builder.fpext(part, args[0].type) for part in parts]
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(FLOAT64, 4)(FLOAT64, FLOAT64, FLOAT64, FLOAT64), codegen


def _address(context, builder, array_type, array, index):
    pointer = context.make_array(array_type)(context, builder, array).data
    return builder.gep(pointer, [index])


def _element(context, builder, array_type, array, row, column):
    """The address of an element of rows that are contiguous, each by itself."""
    array = context.make_array(array_type)(context, builder, array)
    stride = builder.extract_value(array.strides, 0)
    rows = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    begin = builder.gep(rows, [builder.mul(row, stride)])
    return builder.gep(builder.bitcast(begin, array.data.type), [column])


def _transposed4(builder, rows):
    """Four vectors of four: what was element j of vector i is element i of vector j."""
    low = [_shuffled(builder, rows[i], rows[i + 1], (0, 4, 1, 5)) for i in (0, 2)]
    high = [_shuffled(builder, rows[i], rows[i + 1], (2, 6, 3, 7)) for i in (0, 2)]
    return [
        _shuffled(builder, *halves, order)
        for halves in (low, high)
        for order in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


def _store_twin(a, b, c, d, i, *vectors):
    for lane, row in enumerate((a, b, c, d)):
        row[i : i + LANES] = [vector[lane] for vector in vectors]


@compiled(twin=_store_twin)
def store_rows(typing_context, a, b, c, d, i, v, w, x, y):
    """Lane by lane, the four vectors to elements i..i+4 of the float32 arrays a, b, c and d."""

    def codegen(context, builder, signature, args):
        narrow = ir.VectorType(ir.FloatType(), LANES)
        columns = _transposed4(builder, [builder.fptrunc(row, narrow) for row in args[5:]])
        for array, array_type, column in zip(args, signature.args, columns, strict=False):
            address = _address(context, builder, array_type, array, args[4])
            builder.store(column, builder.bitcast(address, narrow.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(a, b, c, d, types.int64, FLOAT64, FLOAT64, FLOAT64, FLOAT64), codegen


BLOCK = 8


def _transposed8(builder, rows):
    """Eight vectors of eight, in steps that no processor needs to cross 16 bytes for but the last.

    Neighbours are interleaved one by one, then two by two; then halves are joined.
    """

    def paired(vectors, apart, low, high):
        firsts = [i for i in range(BLOCK) if not i & apart]
        return {
            i + offset: _shuffled(builder, vectors[i], vectors[i + apart], order)
            for i in firsts
            for offset, order in ((0, low), (apart, high))
        }

    ones = paired(rows, 1, (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
    twos = paired(ones, 2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    halves = paired(twos, 4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
    # Steps one and two leave the elements of a pair in the order 0, 2, 1, 3.
    return [halves[(i & 4) | (i & 1) << 1 | (i & 2) >> 1] for i in range(BLOCK)]


def _copy_transposed_twin(source, i, j, out, k, m):
    out[k : k + BLOCK, m : m + BLOCK] = source[i : i + BLOCK, j : j + BLOCK].T


@compiled(twin=_copy_transposed_twin)
def copy_transposed(typing_context, source, i, j, out, k, m):
    """out[k : k + 8, m : m + 8] = source[i : i + 8, j : j + 8].T, float32, rows contiguous."""

    def codegen(context, builder, signature, args):
        source, i, j, out, k, m = args
        source_type, _, _, out_type, _, _ = signature.args
        kind = ir.VectorType(ir.FloatType(), BLOCK).as_pointer()

        def at(array_type, array, row, column, step):
            row = builder.add(row, ir.Constant(row.type, step))
            return builder.bitcast(_element(context, builder, array_type, array, row, column), kind)

        rows = [builder.load(at(source_type, source, i, j, step), align=4) for step in range(BLOCK)]
        for step, row in enumerate(_transposed8(builder, rows)):
            builder.store(row, at(out_type, out, k, m, step), align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(source, integer, integer, out, integer, integer), codegen

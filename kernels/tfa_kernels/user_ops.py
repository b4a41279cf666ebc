"""Ops of your own in the fused pass."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numba
from numba import types

from tfa_kernels._addressed import AddressedKernel
from tfa_kernels._jit import jit_disabled
from tfa_kernels._op_nb import SIGNATURE, SOURCES
from tfa_kernels._user_nb import windowed
from tfa_kernels.ops import COLUMNS, OPS, Op
from tfa_kernels.spec import MAX_ROWS, FeatureSpec

_INPUTS = (*COLUMNS, "logret")
# Larger than any built-in op: a function of a whole window is rarely cheap.
_COST = 20.0
_WINDOW = types.Array(types.float64, 1, "C", readonly=True)


class OpError(ValueError):
    """A function that cannot be an op, or that raised inside the pass."""


def register_op(
    name: str,
    function: Callable[..., float],
    *,
    lookback: int | Callable[[int], int],
    window: int | None = None,
    inputs: Sequence[str] | None = None,
) -> None:
    """Make a function usable as the ``op`` of features.

    For every row t >= lookback of a series the function is called with rows t - lookback..t of each
    input, newest last, and its result becomes the feature; the rows before have no value. So it
    can neither look ahead nor depend on more than it states, and ``FeatureStream`` gives the same
    bits. It is compiled into the pass in each process that uses it, and runs in its threads.

    Parameters
    ----------
    name : of the op; not one that exists.
    function : plain, or compiled by ``numba.njit`` without ``parallel``: one read-only 1-D float64
        array per input -> number. It must not keep state, nor write to its arrays; an index outside
        them is an error.
    lookback : rows before the newest that it sees: a number, or a function of the feature's window.
    window : default of the feature's ``window``; None where the op has none.
    inputs : columns among open, high, low, close, volume and logret, at most 5; by default one,
        the feature's ``source``.

    Raises
    ------
    OpError : the name is taken, an input is unknown, or the function cannot be compiled as above.
    TypeError : an argument of the wrong type.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a non-empty string, got {name!r}")
    if name in OPS:
        raise OpError(f"name {name!r} is an op already; choose another")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise TypeError(f"window must be an int or None, got {window!r}")
    if window is not None and not 1 <= window <= MAX_ROWS:
        raise OpError(f"window is {window}; allowed: 1..{MAX_ROWS}")
    if inputs is not None and (isinstance(inputs, str) or not isinstance(inputs, Sequence)):
        raise TypeError(f"inputs must be a sequence of column names or None, got {inputs!r}")
    given = () if inputs is None else tuple(inputs)
    unknown = [column for column in given if column not in _INPUTS]
    if unknown or (inputs is not None and not 1 <= len(given) <= SOURCES):
        raise OpError(f"inputs is {inputs!r}; allowed: 1 to {SOURCES} of {', '.join(_INPUTS)}")
    rows = _rows_back(lookback, window)
    count = len(given) or 1
    compiled = _compiled(name, function, count)
    OPS[name] = Op(
        kernel=AddressedKernel(windowed(compiled, count), SIGNATURE, cached=False),
        window=window,
        legacy=rows,
        talib=rows,
        cost=_COST,
        inputs=given,
        history=rows,
        code_digest=(_digest(getattr(compiled, "py_func", compiled)),),
    )


def _rows_back(
    lookback: int | Callable[[int], int], window: int | None
) -> Callable[[int, tuple[float, ...]], int]:
    def rows(w: int, params: tuple[float, ...]) -> int:
        try:
            value = lookback(w) if callable(lookback) else lookback
        except Exception as error:
            raise OpError(f"lookback raised for window {w}: {error!r}") from error
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"lookback must be an int or give one, got {value!r} for window {w}")
        if not 0 <= value <= MAX_ROWS:
            raise OpError(
                f"lookback is {value} for window {w}; a row can only see rows before it, at most "
                f"{MAX_ROWS}"
            )
        return value

    rows(window or 1, ())
    return rows


def _compiled(name: str, function: Any, count: int) -> Any:
    if hasattr(function, "py_func"):
        options = getattr(function, "targetoptions", {})
        if options.get("parallel"):
            raise OpError(f"op {name!r}: the pass is parallel already; compile without parallel")
        if options.get("forceobj"):
            raise OpError(f"op {name!r}: object mode cannot join the pass; use numba.njit")
        function = function.py_func
    if not inspect.isfunction(function):
        raise TypeError(f"function must be a function, got {function!r}")
    if jit_disabled():
        return function
    # Nobody has checked the function's indices: one outside its rows raises.
    compiled: Any = numba.njit(error_model="numpy", nogil=True, boundscheck=True)(function)
    try:
        compiled.compile((_WINDOW,) * count)
        result = compiled.overloads[(_WINDOW,) * count].signature.return_type
    # Besides its own errors, numba lets through whatever its passes raise.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise OpError(
            f"op {name!r}: numba cannot compile {function.__name__} for {count} read-only 1-D "
            f"float64 array(s): {' '.join(reason[:3])}"
        ) from error
    if not isinstance(result, (types.Float, types.Integer, types.Boolean)):
        raise OpError(f"op {name!r}: {function.__name__} returns {result}; it must return a number")
    return compiled


def _digest(function: Any) -> str:
    code = function.__code__
    text = repr((code.co_code, code.co_consts, code.co_names))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def raise_failed(spec: FeatureSpec, column: int, row: int) -> NoReturn:
    feature = spec.features[column]
    raise OpError(
        f"feature {feature.name!r}: the function of op {feature.op!r} raised at row {row}; "
        "call it with that row's window to see why"
    )

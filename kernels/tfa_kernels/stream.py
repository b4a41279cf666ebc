"""The features of bars as they come in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels import _features_nb as nb
from tfa_kernels import _plan
from tfa_kernels._bars import lookup, read_columns, series_offsets
from tfa_kernels._op_nb import FAILED
from tfa_kernels.spec import FeatureSpec, load_spec
from tfa_kernels.user_ops import raise_failed

_HISTORY_BLOCK = 4096
# Positions in State.
_ROWS, _INTS, _KEPT = (nb.State._fields.index(name) for name in ("rows", "ints", "kept"))


class FeatureStream:
    """Features of one series, bar by bar, bit for bit those of ``build_features``.

    ``FeatureStream(spec, history)`` begins with the bars of ``history``; each ``update(bar)`` then
    returns the row that ``build_features`` would give for all bars so far. Memory does not grow:
    it holds each op's state and the bars of the longest window. A stream can be copied and pickled.

    Parameters
    ----------
    spec : see ``load_spec``.
    history : bars of one series, see ``build_features``; None for none. For the bits of
        ``build_features`` it begins where that begins: recursive ops remember their start.

    Attributes
    ----------
    names : F column names.
    rows : bars consumed so far.
    first_valid : the first row with a value in every column, counted from 0.

    Raises
    ------
    SpecError, TypeError, ValueError : the message names the argument.
    """

    def __init__(
        self,
        spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec,
        history: object = None,
    ) -> None:
        self._spec = load_spec(spec)
        self._prepare()
        plan, features = self._columns, len(self._spec.features)
        # The loop itself: it runs once, and without JIT there is nothing else.
        new_state = getattr(nb.new_state, "py_func", nb.new_state)
        try:
            arrays = new_state(features, plan.sources.size, plan.row_capacity, plan.memory)
        except MemoryError as error:
            raise ValueError(
                f"spec: a stream keeps as many bars as its longest window looks back, "
                f"{plan.history}, which the memory does not hold: {error}"
            ) from error
        self._state: tuple[npt.NDArray[Any], ...] = tuple(arrays)
        self.rows = 0
        if history is not None:
            self._consume(history)

    @property
    def names(self) -> tuple[str, ...]:
        return self._spec.names

    @property
    def first_valid(self) -> int:
        return self._spec.first_valid

    def update(self, bar: object) -> npt.NDArray[np.float32]:
        """Take in the next bar; return its features, float32 [F].

        bar : a mapping, or an object with attributes, of one number for each bar column that the
            spec reads (open, high, low, close, volume).

        Raises
        ------
        ValueError, TypeError : the message names the column; the stream is then unchanged.
        OpError : a function given to ``register_op`` raised.
        """
        values = [_number(bar, name) for name in self._spec.bar_columns]
        for cell, value in zip(self._cells, values, strict=True):
            cell[0] = value
        out = np.empty((1, len(self._spec.features)), np.float32)
        self._advance(self._bar, out)
        return out[0]

    def copy(self) -> FeatureStream:
        """A stream of its own in the same state."""
        twin = object.__new__(FeatureStream)
        twin.__setstate__(self.__getstate__())
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = [array.copy() for array in self._state]
        return {"spec": self._spec, "rows": self.rows, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._spec, self.rows = state["spec"], state["rows"]
        self._state = tuple(state["state"])
        self._prepare()
        plan = self._columns
        shape = (plan.sources.size, plan.row_capacity)
        if self._state[_ROWS].shape != shape or self._state[_KEPT].size != plan.memory:
            raise ValueError(
                "the stream was saved by another version of tfa_kernels; build it from its history"
            )

    def _prepare(self) -> None:
        """What can be made anew from the spec: compiled ops are at other addresses elsewhere."""
        spec = self._spec
        self._columns = _plan.plan_columns(spec, 0, len(spec.features), None)
        legacy = spec.convention == "legacy"
        self._fixed = (
            self._columns.units,
            self._columns.sources,
            _plan.lookbacks(spec),
            _plan.params(spec),
            legacy,
            0.0 if legacy else np.nan,
            spec.emit_from_index,
            spec.pad_value,
            self._columns.history,
        )
        cells = {name: np.zeros(1) for name in spec.bar_columns}
        self._cells = tuple(cells.values())
        self._bar = _plan.kernel_bars(cells)

    def _consume(self, history: object) -> None:
        columns = read_columns(history, self._spec.bar_columns)
        rows = next(iter(columns.values())).size
        offsets = series_offsets(history, rows)
        if np.count_nonzero(np.diff(offsets)) > 1:
            raise ValueError("history has several series; make a stream for each")
        out = np.empty((_HISTORY_BLOCK, len(self._spec.features)), np.float32)
        for start in range(0, rows, _HISTORY_BLOCK):
            stop = min(start + _HISTORY_BLOCK, rows)
            part = {name: column[start:stop] for name, column in columns.items()}
            self._advance(_plan.kernel_bars(part), out[: stop - start])

    def _advance(self, bars: list[npt.NDArray[np.float64]], out: npt.NDArray[np.float32]) -> None:
        nb.rows(*bars, *self._fixed, *self._state, self.rows, out)
        self.rows += len(out)
        failed = self._state[_INTS][:, FAILED]
        if failed.any():
            column = int(np.flatnonzero(failed)[0])
            row = int(failed[column]) - 1
            failed[:] = 0
            raise_failed(self._spec, column, row)


def _number(bar: object, name: str) -> float:
    value = lookup(bar, name)
    if value is None:
        raise ValueError(f"bar has no {name!r}, which the spec uses")
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"bar {name!r} must be a number, got {value!r}")
    return float(value)

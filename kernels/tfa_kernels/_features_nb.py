# mypy: ignore-errors
"""The fused pass: pure loops, no validation.

A series is walked in tiles of at most TILE rows. Of a tile, the sources are loaded behind the rows
that ops look back at; every unit advances its own state and leaves its columns in contiguous
scratch rows; then the tile's rows go out together, in row order. Ops are called by address, so the
pass is the same code whatever the spec.
"""

from collections import namedtuple

import numpy as np
from numba import prange

from tfa_kernels._addressed import call_address
from tfa_kernels._jit import inline_kernel, parallel_kernel, serial_kernel
from tfa_kernels._lanes_nb import BLOCK, copy_transposed
from tfa_kernels._op_nb import (
    ADDRESS,
    BEGIN,
    MEMORY,
    N_FLOATS,
    N_INTS,
    N_WORK,
    TILE,
    Unit,
)
from tfa_kernels._sources_nb import load

# A power-of-two stride would put one row of all scratch columns into the same cache sets.
SCRATCH_STRIDE = TILE + 16

# units: rows as in Unit.shape. sources: what each row of State.rows holds, see _sources_nb.
# lookbacks [columns], params [columns, PARAMS]. Rows before a column's lookback get fill, rows
# before emit get pad. history: rows that any op looks back at.
Plan = namedtuple(
    "Plan", ("units", "sources", "lookbacks", "params", "legacy", "fill", "emit", "pad", "history")
)

# What lasts from tile to tile, and scratch. rows [sources, row_capacity]: row t is at t - base[0].
# carried [sources, 1]; floats, ints, kept: see _op_nb.
State = namedtuple(
    "State", ("rows", "base", "carried", "floats", "ints", "kept", "work", "scratch")
)


@inline_kernel
def row_capacity(history):
    # Room for as many rows again, so that moving the history to the front stays amortised.
    return 2 * (history + TILE)


@inline_kernel
def new_state(columns, sources, history, memory):
    return State(
        np.zeros((sources, row_capacity(history)), np.float64),
        np.zeros(1, np.int64),
        np.zeros((sources, 1), np.float64),
        np.zeros((columns, N_FLOATS), np.float64),
        np.zeros((columns, N_INTS), np.int64),
        np.zeros(memory, np.float64),
        np.zeros((N_WORK, TILE), np.float64),
        np.zeros((columns, SCRATCH_STRIDE), np.float32),
    )


@inline_kernel
def _make_room(state, lo, hi, history):
    """Have rows lo..hi fit behind the history; return the row that state.rows begins with."""
    if lo == 0:
        state.base[0] = 0
    elif hi - state.base[0] > state.rows.shape[1]:
        kept = min(history, lo - state.base[0])
        first = lo - state.base[0] - kept
        for s in range(state.rows.shape[0]):
            row = state.rows[s]
            for r in range(kept):
                row[r] = row[first + r]
        state.base[0] = lo - kept
    return state.base[0]


@inline_kernel
def _fill(row, count, value):
    for r in range(count):
        row[r] = value


@inline_kernel
def _write(scratch, n, out):
    """out[r, c] = scratch[c, r] for r < n, in blocks; the last of either way may overlap."""
    columns = out.shape[1]
    if n < BLOCK or columns < BLOCK:
        for r in range(n):
            for c in range(columns):
                out[r, c] = scratch[c, r]
        return
    for i in range((n + BLOCK - 1) // BLOCK):
        r = min(i * BLOCK, n - BLOCK)
        for j in range((columns + BLOCK - 1) // BLOCK):
            c = min(j * BLOCK, columns - BLOCK)
            copy_transposed(scratch, c, r, out, r, c)


@inline_kernel
def advance(plan, state, bars, first, start, stop, out):
    """Rows start..stop of a series into out[0] on; row start is row `first` of bars."""
    lo = start
    while lo < stop:
        hi = min(stop, lo - lo % TILE + TILE)
        base = _make_room(state, lo, hi, plan.history)
        at = first + lo - start
        for s in range(plan.sources.size):
            load(
                bars, plan.sources[s], at, at + hi - lo, lo == 0, plan.legacy, state.carried[s],
                state.rows[s, lo - base : hi - base],
            )  # fmt: skip
        for k in range(plan.units.shape[0]):
            shape = plan.units[k]
            begin = shape[BEGIN]
            if hi > begin:
                a = max(lo - begin, 0)
                unit = Unit(
                    state.rows, base - begin, shape, plan.params, state.floats, state.ints,
                    state.work, state.kept[shape[MEMORY] :], state.scratch, a + begin - lo,
                    plan.legacy,
                )  # fmt: skip
                call_address(shape[ADDRESS], unit, a, hi - begin)
        for c in range(plan.lookbacks.size):
            row = state.scratch[c]
            _fill(row, min(hi, plan.lookbacks[c]) - lo, plan.fill)
            _fill(row, min(hi, plan.emit) - lo, plan.pad)
        _write(state.scratch, hi - lo, out[lo - start : hi - start])
        lo = hi


@inline_kernel
def _share(
    bars, offsets, tasks, first, last, units, sources, lookbacks, params, sizes, legacy, fill, emit,
    pad, out,
):  # fmt: skip
    state = new_state(out.shape[1], sizes[0], sizes[1], sizes[2])
    for k in range(first, last):
        s, c0, c1, u0, u1, s0, s1 = tasks[k]
        start, stop = offsets[s], offsets[s + 1]
        plan = Plan(
            units[u0:u1], sources[s0:s1], lookbacks[c0:c1], params[c0:c1], legacy, fill, emit, pad,
            sizes[1],
        )  # fmt: skip
        advance(plan, state, bars, start, 0, stop - start, out[start:stop, c0:c1])


@parallel_kernel
def features(
    opened, high, low, close, volume, offsets, tasks, shares, units, sources, lookbacks, params,
    sizes, legacy, fill, emit, pad, out,
):  # fmt: skip
    """Fill out [N, F] float32 from float64 bar columns [N]; one that is not read may be empty.

    offsets [S + 1]; tasks rows are (series, first column, column end, first unit, unit end, first
    source, source end), columns in units and sources being counted from the task's first; worker k
    does tasks shares[k]..shares[k + 1]; sizes: sources, history and floats of kept that any task
    needs. All integers are int64.
    """
    for k in prange(shares.size - 1):
        worker = np.int64(k)
        _share(
            (opened, high, low, close, volume), offsets, tasks, shares[worker],
            shares[worker + 1], units, sources, lookbacks, params, sizes, legacy, fill, emit, pad,
            out,
        )  # fmt: skip


@serial_kernel
def rows(
    opened, high, low, close, volume, units, sources, lookbacks, params, legacy, fill, emit, pad,
    history, row_buffer, base, carried, floats, ints, kept, work, scratch, start, out,
):  # fmt: skip
    """Fill out [n, F] with rows start..start+n of one series, whose bars are bars 0..n."""
    plan = Plan(units, sources, lookbacks, params, legacy, fill, emit, pad, history)
    state = State(row_buffer, base, carried, floats, ints, kept, work, scratch)
    bars = (opened, high, low, close, volume)
    advance(plan, state, bars, 0, start, start + out.shape[0], out)

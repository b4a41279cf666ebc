"""Arguments of any kind for the public functions, and what may come of them.

500 examples of each; TFA_PERF_FUZZ_EXAMPLES=20000 for a night.
"""

from __future__ import annotations

import os
import re

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzz = settings(
    max_examples=int(os.environ.get("TFA_PERF_FUZZ_EXAMPLES", "500")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

ODD = st.sampled_from([None, True, 0, -1, 2**31, 2**63, -(2**63), 1.5, float("nan"), "2", b"", {}])
DTYPES = st.sampled_from(
    ["f2", "f4", "f8", ">f4", "i1", "u2", "i8", "?", "c16", "O", "U3", "M8[s]", "V8"]
)


def often(draw, usual, odd):
    return draw(odd if draw(st.integers(0, 11)) == 5 else usual)


@st.composite
def arrays(draw, shape):
    """Of any dtype and layout; mostly float32 and contiguous."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(often(draw, st.just("f4"), DTYPES))
    layout = often(draw, st.just("C"), st.sampled_from(["F", "reversed", "strided", "read-only"]))
    if not shape or layout == "C":
        return array
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        return array[::-1]
    if layout == "strided":
        return np.repeat(array, 2, axis=0)[::2]
    array.flags.writeable = False
    return array


odd_shapes = st.sampled_from([(), (5,), (3, 2, 2), (0, 0), (1, 1)])
_FACTORS = st.sampled_from([0.0, -1.0, 4.0, 1e-40])


@st.composite
def tables(draw, shape):
    """Small numbers of both signs in an array of any kind, now and then a row of others."""
    array = often(draw, arrays(often(draw, st.just(shape), odd_shapes)), ODD)
    if isinstance(array, np.ndarray) and array.dtype == np.float32 and array.size:
        made = np.sin(np.arange(array.size, dtype=np.float32) + draw(st.integers(0, 999)))
        if array.flags.writeable:
            array[...] = made.reshape(array.shape)
            array[draw(st.integers(0, len(array) - 1)) if array.ndim else ...] *= draw(_FACTORS)
    return array


def outcome(function, arguments, names):
    """What it returns; None where it refuses, by name."""
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        assert re.search(rf"\b({'|'.join(names)})\b", str(error)), error
        return None

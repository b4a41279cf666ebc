"""What a row costs with short and with long windows, on one thread.

``-m lengths`` runs it, ``--size large`` over a million bars. A cost that does not depend on the
window has the same figure in every column.
"""

from __future__ import annotations

import numpy as np
import pytest

from tfa_kernels import build_features, load_spec
from tfa_kernels.ops import OPS
from tfa_perf.data.bars import load_bars

WINDOWS = (5, 20, 100, 500, 2000)
# Enough for the reading of bars and the writing of rows to be shared out, as in a real spec.
COLUMNS = 16
WINDOWED = [name for name, op in OPS.items() if op.window is not None]


def spec_of(op, window):
    features = [{"name": f"{op}_{c}", "op": op, "window": window} for c in range(COLUMNS)]
    return load_spec({"schema_version": "2.0", "features": features})


@pytest.mark.lengths
@pytest.mark.parametrize("op", WINDOWED)
def test_window_length(across_windows, rows, op):
    bars = load_bars(f"synthetic:{rows}")
    out = np.zeros((rows, COLUMNS), np.float32)
    specs = {window: spec_of(op, window) for window in WINDOWS}

    def build(spec):
        return lambda: build_features(bars, spec, out=out, num_threads=1)

    sides = {window: build(spec) for window, spec in specs.items()}
    across_windows(op, sides, rows * COLUMNS)

"""One pass over the windows: the report's SeqWindows and WindowLoader."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.data.loader import WindowLoader

ROWS, FEATURES, WINDOW, BATCH = 20_000, 55, 48, 1024


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    y = (rng.random(ROWS) > 0.5).astype(np.float32)
    before = DataLoader(
        SeqWindows(X, y[:, None], WINDOW, WINDOW - 1, ROWS - 1, BATCH), batch_size=None
    )
    after = WindowLoader(X, y, window=WINDOW, batch_size=BATCH)
    for (x_before, y_before), (x_after, y_after) in zip(before, after, strict=True):
        assert np.array_equal(x_before, x_after)
        assert np.array_equal(y_before, y_after)

    def drain(loader):
        for _ in loader:
            pass

    return {"before": lambda: drain(before), "after": lambda: drain(after)}


@pytest.mark.parametrize("impl", ["before", "after"])
def test_window_loading(measure, sides, impl):
    measure(sides, impl)

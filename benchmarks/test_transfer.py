"""Getting one batch onto the GPU: pageable windows, and indices into a table that is there."""

import numpy as np
import pytest
import torch

from benchmarks.sizes import current
from tfa_perf.data.device_windows import ResidentWindows
from tfa_perf.data.table import Table, WindowForm

ROWS, FEATURES, WINDOW, BATCH = current().rows, 55, 48, current().batch

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="host-to-device transfer needs a CUDA GPU"
)


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    y = (rng.random(ROWS) > 0.5).astype(np.float32)
    ends = rng.integers(WINDOW - 1, ROWS, BATCH)
    windows = torch.from_numpy(np.stack([X[t - WINDOW + 1 : t + 1] for t in ends]))
    labels = torch.from_numpy(y[ends][:, None])
    form = WindowForm(WINDOW, 0, torch.float32)
    table = ResidentWindows(Table.of(X, y), form, torch.device("cuda", 0))

    def gathered():
        return next(table.batches(ends, [BATCH]))

    x, labels_there = gathered()
    assert torch.equal(x.cpu(), windows)
    assert torch.equal(labels_there.cpu(), labels)

    def before():
        windows.to("cuda")
        labels.to("cuda")
        torch.cuda.synchronize()

    def after():
        gathered()
        torch.cuda.synchronize()

    return {"before": before, "after": after}


@pytest.mark.row("host-to-device transfer")
def test_transfer(measure, sides, impl):
    measure(
        sides,
        impl,
        rounds=50,
        samples=BATCH,
        moved=BATCH * WINDOW * FEATURES * 4,
        copied=BATCH * WINDOW * FEATURES * 4,
        peak="copy to the GPU",
    )

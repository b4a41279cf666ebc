"""One whole epoch of the report's config on a small table: its loop, and ours."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from benchmarks.sizes import current
from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.loop import train_steps
from tfa_perf.train.model import WindowEncoder

FEATURES, BATCH = 55, current().step
# The last batch is not full.
WINDOWS = int((current().steps - 0.75) * BATCH)


@pytest.fixture(scope="module")
def sides():
    config = load_config(
        "report", [f"train.batch_size={BATCH}", "train.epochs=1", "train.shuffle=false"]
    )
    window, batch = config.data.window, BATCH
    rows = WINDOWS + window - 1
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, FEATURES), dtype=np.float32)
    y = (rng.random(rows) > 0.5).astype(np.float32)
    dataset = SeqWindows(X, y[:, None], window, window - 1, rows - 1, batch)
    loader = WindowLoader(X, y, window=window, batch_size=batch, overlapping=True)
    torch.manual_seed(0)
    start = TFATransformer(FEATURES, config.model).state_dict()

    def before():
        model = TFATransformer(FEATURES, config.model)
        model.load_state_dict(start)
        with redirect_stdout(io.StringIO()):
            for _ in train_steps_as_written(model, dataset, config.train, "cpu"):
                pass
        return model

    def after():
        model = WindowEncoder(FEATURES, config.model)
        model.load_state_dict(start)
        for _ in train_steps(model, loader, config.train, "cpu"):
            pass
        return model

    # From the same weights on the same batches to the same function. Not the same weights: the
    # bias of the keys has no effect, so AdamW moves it by rounding noise.
    x = torch.from_numpy(X[: 4 * window].reshape(4, window, FEATURES))
    trained = before(), after()
    with torch.no_grad():
        torch.testing.assert_close(trained[1](x), trained[0](x), rtol=0, atol=1e-3)
    return {"before": before, "after": after}


def test_epoch(measure, sides, impl):
    measure(sides, impl, rounds=6, samples=WINDOWS, flops=True)

"""Bar by bar: features of the newest bar, then the model's score."""

import pandas as pd
import torch

from examples.data import live_bars
from examples.spec import SPEC
from tfa_kernels import FeatureStream

HISTORY = 1_000


def scores(bars):
    torch.manual_seed(0)
    model = torch.nn.Linear(12, 1)
    stream, found = FeatureStream(SPEC, pd.DataFrame(bars[:HISTORY])), []
    for bar in bars[HISTORY:]:
        row = stream.update(bar)
        with torch.inference_mode():
            found.append(model(torch.from_numpy(row)).item())
    return found


if __name__ == "__main__":
    print(scores(live_bars())[-1])

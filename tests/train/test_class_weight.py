import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tfa_perf.config import ConfigError, load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.data.dataset import build_dataset
from tfa_perf.train.setup import make_criterion


@pytest.fixture(scope="module")
def dataset():
    return build_dataset(load_bars("synthetic:2000"), load_config("tuned").data)


def criterion_of(dataset, value):
    config = load_config("tuned", [f"train.pos_weight={value}"])
    return make_criterion(config, dataset, torch.device("cpu"))


def test_a_number_weighs_the_windows_labelled_one(dataset):
    logits, y = torch.tensor([[0.3], [-1.0]]), torch.tensor([[1.0], [0.0]])
    plain = binary_cross_entropy_with_logits(logits, y, reduction="none")
    weighted = criterion_of(dataset, 3)(logits, y)
    torch.testing.assert_close(weighted, plain * torch.tensor([[3.0], [1.0]]))
    assert criterion_of(dataset, "null") is None


def test_balanced_gives_either_label_the_same_total_weight(dataset):
    ends = dataset.split.train_ends
    y = np.zeros_like(dataset.y)
    y[ends[::5]] = 1
    # Validation labels must not count.
    y[dataset.split.val_ends] = 1
    criterion = criterion_of(dataclasses.replace(dataset, y=y), "balanced")
    labels = torch.from_numpy(y[ends])[:, None]
    losses = criterion(torch.zeros_like(labels), labels)
    torch.testing.assert_close(losses[labels == 1].sum(), losses[labels == 0].sum())


def test_balanced_needs_both_labels(dataset):
    with pytest.raises(ConfigError, match=r"pos_weight.*both labels"):
        criterion_of(dataclasses.replace(dataset, y=np.ones_like(dataset.y)), "balanced")

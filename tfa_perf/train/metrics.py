"""What a validation pass says about a binary classifier."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["Validation", "validation"]


class Validation(NamedTuple):
    """Figures of one pass over the validation windows.

    ``loss`` is the mean binary cross entropy. ``auc`` is the area under the ROC curve, exact,
    ties counted half; NaN where all labels are the same. ``calibration_error`` is the expected
    calibration error over 15 equal bins of the probability of label 1 (Naeini et al. 2015): the
    distance of a bin's mean probability from its share of label 1, a mean over the windows.
    """

    loss: float
    auc: float
    calibration_error: float


def validation(logits: Tensor, labels: Tensor) -> Validation:
    """Figures for float32 logits [n] and labels [n] of 0 and 1, n at least 1."""
    # Here, because it takes a second that a run without validation need not wait for.
    from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

    loss = binary_cross_entropy_with_logits(logits, labels).item()
    if not logits.isfinite().all():
        return Validation(loss, math.nan, math.nan)
    targets = labels.long()
    # Not of probabilities: rounded to float32 they tie where logits do not.
    _, ranks = torch.unique(logits, return_inverse=True)
    mixed = 0 < int(targets.sum()) < len(targets)
    auc = binary_auroc(ranks.double() / len(ranks), targets).item() if mixed else math.nan
    error = binary_calibration_error(logits.sigmoid(), targets, n_bins=15, norm="l1")
    return Validation(loss, auc, error.item())

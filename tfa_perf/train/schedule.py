"""Learning rate of a step, from its number alone: there is nothing to save or to restore."""

from __future__ import annotations

import math

from tfa_perf.config import TrainConfig

__all__ = ["learning_rate"]


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step ``step`` (from 0) of ``total``.

    It rises in equal parts over ``config.warmup_steps`` steps, the last of which has
    ``config.lr``; from then on it is constant, or falls along half a cosine that reaches 0 where
    step ``total`` would be (Loshchilov and Hutter 2017, SGDR, eq. 5, without restarts).
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

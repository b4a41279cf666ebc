"""A minimal trainer over feature windows, and its pieces."""

from tfa_perf.train.loop import Step, evaluate, train_steps
from tfa_perf.train.model import WindowEncoder

__all__ = ["Step", "WindowEncoder", "evaluate", "train_steps"]

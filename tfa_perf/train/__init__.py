"""A minimal trainer over feature windows, and its pieces."""

from tfa_perf.train.bf16 import probed
from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tfa_perf.train.loop import evaluate, train_steps
from tfa_perf.train.metrics import Validation
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.optimizer import make_optimizer, set_lr
from tfa_perf.train.ranks import Ranks, torchrun_ranks
from tfa_perf.train.step import TrainStep, make_step
from tfa_perf.train.trainer import Step, Trainer

__all__ = [
    "CheckpointError",
    "Ranks",
    "Step",
    "TrainStep",
    "Trainer",
    "Validation",
    "WindowEncoder",
    "evaluate",
    "make_optimizer",
    "make_step",
    "probed",
    "read_checkpoint",
    "set_lr",
    "torchrun_ranks",
    "train_steps",
    "write_checkpoint",
]

"""Memory that a config's model takes, known before anything of it is made."""

from __future__ import annotations

import torch

from tfa_perf.available_memory import available_bytes
from tfa_perf.config import Config, ConfigError, ModelConfig
from tfa_perf.train.step import CPU_MICRO_BATCH

__all__ = ["check_memory", "parameter_bytes"]

_FLOAT = 4


def parameter_bytes(model: ModelConfig, *, features: int, window: int) -> int:
    """Bytes of the float32 parameters of a `WindowEncoder`."""
    d, hidden = model.d_model, model.ffn_hidden
    attention = 4 * (d * d + d)
    feed_forward = 2 * d * hidden + hidden + d
    layer = attention + feed_forward + 4 * d
    positions = window * d if model.positions == "learned" else 0
    rest = features * d + d + 2 * d + d + 1
    return _FLOAT * (model.num_layers * layer + rest + positions)


def check_memory(config: Config, features: int, device: torch.device) -> None:
    """Raise ConfigError where this machine lacks the memory that training takes at the least.

    On a CPU: weights, gradients, the optimizer's two moments and the output of each layer but the
    last, for one micro-batch. For a GPU: the weights, which are made on the CPU.
    """
    free = available_bytes()
    need = parameter_bytes(config.model, features=features, window=config.data.window)
    if device.type == "cpu":
        train = config.train
        windows = min(train.batch_size, train.micro_batch or CPU_MICRO_BATCH)
        rows = windows * config.data.window
        need = 4 * need + _FLOAT * rows * config.model.d_model * (config.model.num_layers - 1)
    if free is not None and need > free:
        raise ConfigError(
            f"model: it takes {need / 1e9:,.1f} GB at the least, {free / 1e9:,.1f} GB are free; "
            "use a smaller d_model, ffn_hidden, num_layers or train.micro_batch"
        )

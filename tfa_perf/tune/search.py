"""The search: one knob after another, each setting in turn with the best so far."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tfa_kernels._jit import resolve_threads
from tfa_perf.claims.measure import Ratio
from tfa_perf.claims.paired import Comparison, compare
from tfa_perf.config import Config
from tfa_perf.data.dataset import Dataset
from tfa_perf.train.memory import out_of_memory
from tfa_perf.train.setup import set_up
from tfa_perf.train.step import CPU_MICRO_BATCH
from tfa_perf.train.threads import torch_threads

__all__ = ["Knob", "Trial", "Tuned", "fastest", "knobs", "tune"]

Settings = dict[str, Any]

# What a step needs before it is typical: the optimizer's state, a captured graph.
_WARM_UP_STEPS = 2
_GRAPH_STEPS = (4, 8, 16)
_ENDLESS_EPOCHS = 1_000_000
# A larger batch changes what is learned; it has to pay for that.
_BATCH_GAIN = 1.05


@dataclass(frozen=True)
class Knob:
    """Settings of a few keys of ``train`` that are tried beside what a config has.

    Those that were faster than the best so far by ``gain``, the whole interval, are taken.
    """

    name: str
    options: tuple[Settings, ...]
    gain: float = 1.0


@dataclass(frozen=True)
class Trial:
    """A setting beside the best before it; ``comparison`` is None where it could not run."""

    knob: str
    settings: Settings
    comparison: Comparison | None
    reason: str = ""
    taken: bool = False

    @property
    def ratio(self) -> Ratio | None:
        return None if self.comparison is None else self.comparison.ratio


@dataclass
class Tuned:
    """What the search found: the config, and its time beside that of the one it began with."""

    start: Config
    config: Config
    trials: list[Trial] = field(default_factory=list)
    total: Comparison | None = None

    @property
    def changes(self) -> Settings:
        """Keys of ``train`` that differ from the start."""
        before = self.start.train
        return {k: v for k, v in self.config.train if v != getattr(before, k)}


def knobs(config: Config, device: torch.device, *, keep_batch: bool) -> Iterator[Knob]:
    """What is tried on ``device``, in this order; memory decides what of it fits."""
    batch = config.train.batch_size
    if device.type == "cuda":
        steps = [{"graph": g, "compile": c} for g in (True, False) for c in (True, False)]
        yield Knob("step", tuple(steps))
        yield Knob("steps a graph", tuple({"graph_steps": count} for count in _GRAPH_STEPS))
    else:
        yield Knob("step", ({"compile": False}, {"compile": True}))
        cores = int(resolve_threads(None))
        counts = sorted({1, max(1, cores // 2), cores})
        yield Knob("threads", tuple({"threads": count} for count in counts))
    if not keep_batch:
        others = (batch // 2, batch * 2, batch * 4)
        options = tuple({"batch_size": size} for size in others if size)
        yield Knob("batch", options, gain=_BATCH_GAIN)
    sizes = [64, 128, 256, 512] if device.type == "cpu" else [batch // 4, batch // 2]
    yield Knob("micro-batch", tuple({"micro_batch": size} for size in sizes if size))


def tune(
    config: Config,
    dataset: Dataset,
    device: torch.device,
    *,
    seconds: float = 10.0,
    keep_batch: bool = False,
    announce: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Find settings of ``config.train`` that train the most windows a second on ``device``.

    Knob by knob, each option is timed in turn with the best so far, on as many windows; the
    fastest of those is taken whose whole interval says that it is faster. Nothing is learned of
    how well a config trains: all options but the batch leave the gradients as they are.

    Parameters
    ----------
    seconds : time for the rounds of one knob, six at the least; preparing comes on top.
    keep_batch : leave ``batch_size`` alone.
    announce : told of each trial once it is decided.
    """
    found = Tuned(config, config)
    for knob in knobs(config, device, keep_batch=keep_batch):
        for trial in _trials(knob, found.config, dataset, device, seconds):
            found.trials.append(trial)
            announce(trial)
            if trial.taken:
                found.config = _changed(found.config, trial.settings)
    if found.changes:
        windows = _common_windows([config, found.config])
        before, after = (_Side(c, dataset, device, windows) for c in (config, found.config))
        compared = compare(before, {"found": after}, budget_s=seconds, device=device)
        found.total = compared["found"]
    return found


def fastest(compared: Mapping[str, Comparison], gain: float) -> str | None:
    """The name of the fastest whose whole interval lies above ``gain``, its A/A covering 1."""
    faster = {k: c.ratio for k, c in compared.items() if c.valid and c.ratio.low > gain}
    return max(faster, key=lambda k: faster[k].median, default=None)


def _trials(
    knob: Knob, best: Config, dataset: Dataset, device: torch.device, seconds: float
) -> list[Trial]:
    there = len(dataset.split.train_ends)
    configs = {
        number: _changed(best, settings)
        for number, settings in enumerate(knob.options)
        if not settings.items() <= _effective(best, device).items()
        and settings.get("batch_size", 1) <= there
        and settings.get("micro_batch", 1) <= best.train.batch_size
        and ("graph_steps" not in settings or _effective(best, device)["graph"])
        and settings.get("graph_steps", 1) * _step_windows(best) <= there
    }
    windows = _common_windows([best, *configs.values()])
    sides: dict[str, _Side] = {}
    refused: dict[int, str] = {}
    for number, config in configs.items():
        side, reason = _side_or_reason(config, dataset, device, windows)
        if side is None:
            refused[number] = reason
        else:
            sides[str(number)] = side
    compared: dict[str, Comparison] = {}
    if sides:
        base = _Side(best, dataset, device, windows)
        compared = compare(base, sides, budget_s=seconds, device=device)
    taken = fastest(compared, knob.gain)
    return [
        Trial(
            knob.name,
            knob.options[number],
            compared.get(str(number)),
            refused.get(number, ""),
            str(number) == taken,
        )
        for number in configs
    ]


class _Side:
    """Calls that each train on ``windows`` windows; the first steps are taken when it is made."""

    def __init__(
        self, config: Config, dataset: Dataset, device: torch.device, windows: int
    ) -> None:
        endless = {"epochs": _ENDLESS_EPOCHS, "schedule": "constant", "warmup_steps": 0}
        config = _changed(config, endless)
        self._threads = config.train.threads
        self._count = windows // _step_windows(config)
        with torch_threads(self._threads):
            self._trainer = set_up(config, dataset, device).trainer
            self._steps = self._trainer.steps()
            # Steps on their own, and those of a graph of several.
            for count in (_WARM_UP_STEPS, config.train.graph_steps):
                self._take(count)

    def __call__(self) -> None:
        with torch_threads(self._threads):
            self._take(self._count)

    def _take(self, count: int) -> None:
        self._trainer.until = self._trainer.done + count
        while self._trainer.done < self._trainer.until:
            next(self._steps)


def _side_or_reason(
    config: Config, dataset: Dataset, device: torch.device, windows: int
) -> tuple[_Side | None, str]:
    try:
        return _Side(config, dataset, device, windows), ""
    except (RuntimeError, ValueError, OSError) as error:
        # The frames that failed hold the activations.
        traceback.clear_frames(error.__traceback__)
        return None, out_of_memory(error) or str(error).strip().partition("\n")[0]


def _changed(config: Config, settings: Settings) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def _effective(config: Config, device: torch.device) -> Settings:
    """The keys of ``train`` as they act, defaults filled in."""
    train, on_cpu = config.train, device.type == "cpu"
    return {
        **dict(train),
        "micro_batch": train.micro_batch or (CPU_MICRO_BATCH if on_cpu else train.batch_size),
        "threads": train.threads or torch.get_num_threads(),
        "graph": not on_cpu if train.graph is None else train.graph,
    }


def _step_windows(config: Config) -> int:
    return config.train.batch_size * config.train.accumulation


def _common_windows(configs: Sequence[Config]) -> int:
    """As many windows as are whole graphs, so whole steps, of each."""
    return math.lcm(*(_step_windows(c) * c.train.graph_steps for c in configs))

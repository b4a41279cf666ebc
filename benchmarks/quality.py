"""Does the fast path train as good a model? Seeds in pairs, as written and ours.

    python -m benchmarks.quality [--seeds 12] [--device auto] [--bars SOURCE ...] [--out FILE.json]

For each seed every way starts from the same weights (tuned from its own, being another model),
trains for the epochs of its config and is validated in float32 after each epoch. What counts is
the model after the last epoch, which is the one that the report's loop keeps; a second table has
each way's epoch of the lowest validation loss.

The bounds, set before the first run: ours is not inferior where the interval of the median paired
difference stays above -0.01 in AUC, and below +1 % of the loss as written. The interval is that
of the order statistics, at least 95 % from 6 seeds on. "ours" takes the windows in the report's
order, as report.yaml says, and so differs in arithmetic alone (fused attention, bfloat16 on a
GPU); "ours, shuffled" shows what another order does.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.measure import median_interval
from tfa_perf.config import Config, load_config
from tfa_perf.data.bars import Bars, load_bars
from tfa_perf.data.dataset import Dataset, build_dataset
from tfa_perf.train.bf16 import probed
from tfa_perf.train.devices import pick_device
from tfa_perf.train.loop import evaluate
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.setup import make_loader
from tfa_perf.train.trainer import Trainer

AS_WRITTEN = "as written"
AUC_BOUND = -0.01
LOSS_BOUND = 0.01
PLANTED = "planted:"


class Difference(NamedTuple):
    """Median paired difference over the seeds with its interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, help="default: the config's")
    parser.add_argument(
        "--bars",
        nargs="+",
        default=["sample", f"{PLANTED}40000"],
        help=f"sources of bars, or {PLANTED}ROWS for synthetic bars with a signal",
    )
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile")
    parser.add_argument("--out", type=Path, help="JSON file for the figures of every epoch")
    args = parser.parse_args()
    if args.seeds < 6:
        parser.error(f"--seeds is {args.seeds}; an interval of 95 % needs 6 or more")
    device = pick_device(args.device)
    console = Console(width=130)
    record: dict[str, Any] = {"device": _device_name(device), "torch": torch.__version__}
    for source in args.bars:
        bars = planted(int(source[len(PLANTED) :])) if source.startswith(PLANTED) else None
        bars = bars or load_bars(source)
        runs: dict[str, list[list[tuple[float, ...]]]] = {}
        for seed in range(args.seeds):
            for way, epochs in train_all(bars, seed, device, args.epochs, args.compile):
                runs.setdefault(way, []).append(epochs)
                loss, auc, _ = epochs[-1]
                console.print(f"{source} seed {seed} {way}: loss {loss:.5f}, AUC {auc:.4f}")
        record[source] = {"validation": runs}
        for when, pick in (("last epoch", _last), ("epoch of the lowest loss", min)):
            figures = {w: np.array([pick(epochs) for epochs in r]) for w, r in runs.items()}
            record[source][when] = show(console, f"{source}, {args.seeds} seeds, {when}", figures)
        if args.out is not None:
            args.out.write_text(json.dumps(record, indent=1))


def train_all(
    bars: Bars, seed: int, device: torch.device, epochs: int | None, compiled: bool
) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    """Each way with its validation figures after every epoch."""
    changes = [f"train.seed={seed}", f"train.compile={compiled}"]
    changes += [] if epochs is None else [f"train.epochs={epochs}"]
    report, tuned = (load_config(name, changes) for name in ("report", "tuned"))
    # As `tfa-perf train` runs it on a GPU, for a config that says nothing of precision.
    fast = _with_train(report, amp="auto")
    data = build_dataset(bars, report.data)
    torch.manual_seed(seed)
    start = TFATransformer(data.X.shape[1], report.model).state_dict()
    yield AS_WRITTEN, list(_as_written(start, data, report, device))
    yield "ours", list(_ours(start, data, fast, device))
    shuffled = _with_train(fast, shuffle=True)
    yield "ours, shuffled", list(_ours(start, data, shuffled, device))
    data = build_dataset(bars, tuned.data)
    torch.manual_seed(seed)
    start = WindowEncoder(data.X.shape[1], tuned.model).state_dict()
    yield "ours, tuned config", list(_ours(start, data, tuned, device))


def _as_written(
    start: dict[str, Any], data: Dataset, config: Config, device: torch.device
) -> Iterator[tuple[float, ...]]:
    model = TFATransformer(data.X.shape[1], config.model).to(device)
    model.load_state_dict(start)
    ends = data.split.train_ends
    if len(ends) != ends[-1] - ends[0] + 1:
        raise ValueError("bars: the report's loop takes one series without gaps in the labels")
    validate = _Validator(data, config, device)
    windows = SeqWindows(
        data.X,
        data.y[:, None],
        config.data.window,
        int(ends[0]),
        int(ends[-1]),
        config.train.batch_size,
    )
    steps = -(-len(ends) // config.train.batch_size)
    with redirect_stdout(io.StringIO()):
        for number, _ in enumerate(train_steps_as_written(model, windows, config.train, device), 1):
            if number % steps == 0:
                yield validate(model)


def _ours(
    start: dict[str, Any], data: Dataset, config: Config, device: torch.device
) -> Iterator[tuple[float, ...]]:
    model = WindowEncoder(data.X.shape[1], config.model).to(device)
    model.load_state_dict(start)
    loader = make_loader(data, config, device)
    train = probed(config.train, model, loader, device)
    trainer = Trainer(model, loader, train, device)
    validate = _Validator(data, config, device)
    for _ in trainer.steps():
        if trainer.done % trainer.steps_per_epoch == 0:
            yield validate(model)


class _Validator:
    """Float32 figures of a model in training over the validation windows."""

    def __init__(self, data: Dataset, config: Config, device: torch.device) -> None:
        self._model = WindowEncoder(data.X.shape[1], config.model).to(device)
        self._loader = make_loader(data, config, device, part="val")
        self._train = config.train.model_copy(update={"amp": "off"})
        self._device = device

    def __call__(self, model: nn.Module) -> tuple[float, ...]:
        self._model.load_state_dict(model.state_dict())
        return tuple(evaluate(self._model, self._loader, self._train, self._device))


def _last(epochs: list[tuple[float, ...]]) -> tuple[float, ...]:
    return epochs[-1]


def show(console: Console, title: str, figures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Print and return each way's difference from the report's trainer as written.

    ``figures[way]`` has a row for each seed: loss, AUC, calibration error.
    """
    written = figures[AS_WRITTEN]
    table = Table(title=title)
    for heading in ("way", "loss", "AUC", "loss difference", "AUC difference", "verdict"):
        table.add_column(heading)
    result: dict[str, Any] = {}
    for way, own in figures.items():
        row = [way, f"{np.median(own[:, 0]):.4f}", f"{np.median(own[:, 1]):.4f}"]
        if way == AS_WRITTEN:
            table.add_row(*row, "-", "-", "-")
            continue
        loss = paired_difference(own[:, 0], written[:, 0])
        auc = paired_difference(own[:, 1], written[:, 1])
        said = verdict(loss, auc, LOSS_BOUND * float(np.median(written[:, 0])))
        table.add_row(*row, str(loss), str(auc), said)
        result[way] = {"loss": loss._asdict(), "auc": auc._asdict(), "verdict": said}
    console.print(table)
    return result


def paired_difference(values: np.ndarray, base: np.ndarray) -> Difference:
    """Median of ``values - base``, pair by pair, with its interval."""
    d = np.sort(np.asarray(values) - np.asarray(base))
    low, high, _ = median_interval(len(d))
    return Difference(float(np.median(d)), float(d[low]), float(d[high]))


def verdict(loss: Difference, auc: Difference, loss_bound: float) -> str:
    words = []
    for name, worst, best, bound in (
        ("loss", -loss.high, -loss.low, -loss_bound),
        ("AUC", auc.low, auc.high, AUC_BOUND),
    ):
        word = "not inferior" if worst > bound else "inferior" if best < bound else "open"
        words.append(f"{name} {'better' if worst > 0 else word}")
    return ", ".join(words)


def planted(rows: int, seed: int = 0, strength: float = 0.5) -> Bars:
    """Synthetic bars whose next return leans against the sum of the last five.

    The drift of a bar is ``strength`` times the local volatility (an exponential mean of absolute
    returns) times ``-tanh`` of the last five bars' return over it and the square root of five.
    All four prices of the bar are moved; bars without volume stay as they are.
    """
    bars = load_bars(f"synthetic:{rows}:{seed}")
    own = np.diff(np.log(bars.close), prepend=math.log(bars.close[0]))
    moved, shift = own.tolist(), np.zeros(rows)
    level = float(np.abs(own[:1000]).mean())
    total = 0.0
    for t in range(5, rows):
        if bars.volume[t] > 0:
            lean = -math.tanh(sum(moved[t - 5 : t]) / (level * math.sqrt(5)))
            total += strength * level * lean
            moved[t] += strength * level * lean
        shift[t] = total
        level += 0.02 * (abs(moved[t]) - level)
    factor = np.exp(shift)
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)


def _with_train(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    main()

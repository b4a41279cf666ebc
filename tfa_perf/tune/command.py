"""``tfa-perf tune``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfa_perf.arguments import add_shared_arguments
from tfa_perf.json_output import json_alone

if TYPE_CHECKING:
    from tfa_perf.tune.search import Trial, Tuned

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "tune", help="the fastest batch, step and threads on this machine"
    )
    add_shared_arguments(parser, config="report")
    parser.add_argument("--keep-batch", action="store_true", help="leave the batch size alone")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for the trials of one knob (default 10)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("tuned-here.yaml"),
        help="config to write (default tuned-here.yaml)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the trials as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Search, print each trial and what a changed batch means, and write the config."""
    with json_alone(args.json) as document:
        json.dump(_tuned(args), document, indent=1)
    return 0


def _tuned(args: argparse.Namespace) -> dict[str, Any]:
    # Imported here, so that --help needs no torch.
    from rich.console import Console

    from tfa_perf.claims.files import write_whole
    from tfa_perf.claims.run import describe_machine
    from tfa_perf.config import load_config
    from tfa_perf.data.bars import load_bars
    from tfa_perf.data.dataset import build_dataset
    from tfa_perf.train.devices import pick_device
    from tfa_perf.train.written import check_writable
    from tfa_perf.tune.search import tune

    config = load_config(args.config, args.overrides)
    device = pick_device(args.device)
    check_writable(args.out)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    machine = describe_machine(device)
    console.print("machine: " + " · ".join(f"{key} {value}" for key, value in machine.items()))
    dataset = build_dataset(load_bars(args.bars or config.data.bars), config.data)
    found = tune(
        config,
        dataset,
        device,
        seconds=args.seconds,
        keep_batch=args.keep_batch,
        announce=lambda trial: console.print(trial_line(trial)),
    )
    verdict = verdict_line(found)
    console.print(verdict)
    if "batch_size" in found.changes:
        console.print(batch_note(found))
    write_whole(args.out, config_text(found, [verdict, *map(": ".join, machine.items())]))
    console.print(f"wrote {args.out}: tfa-perf train --config {args.out}")
    return as_json(found, machine)


def trial_line(trial: Trial) -> str:
    settings = ", ".join(f"{key} {_shown(value)}" for key, value in trial.settings.items())
    if trial.ratio is None:
        return f"  {settings}: left out, {trial.reason}"
    return f"  {settings}: {trial.ratio} the best so far{', taken' if trial.taken else ''}"


def verdict_line(found: Tuned) -> str:
    if found.total is None:
        return "nothing was faster than the config as it is"
    changes = ", ".join(f"{key} {_shown(value)}" for key, value in found.changes.items())
    doubt = "" if found.total.valid else ", but a side beside itself differed as well: run again"
    return f"{changes}: {found.total.ratio} the windows per second of the config as it is{doubt}"


def batch_note(found: Tuned) -> str:
    """What a changed batch does to what is learned, which no trial has measured."""
    before, after = found.start.train.batch_size, found.config.train.batch_size
    times = f"{after / before:g} times" if after > before else f"{before / after:g} times fewer"
    return (
        f"batch_size {after} instead of {before}: a gradient is the mean over {times} "
        f"{'as many ' if after > before else ''}windows, and an epoch has "
        f"{'fewer' if after > before else 'more'} steps in proportion. That changes what is "
        "learned, and no trial has measured it: compare validation losses, "
        "or leave the batch alone with --keep-batch"
    )


def config_text(found: Tuned, notes: list[str]) -> str:
    """YAML that `load_config` reads, with ``notes`` as comments on top."""
    import yaml

    comments = "".join(f"# {note}\n" for note in notes)
    return comments + yaml.safe_dump(found.config.model_dump(mode="json"), sort_keys=False)


def as_json(found: Tuned, machine: dict[str, str]) -> dict[str, Any]:
    """The trials and the result; a ratio is [median, low, high]."""

    def interval(ratio: Any) -> list[float] | None:
        return None if ratio is None else [ratio.median, ratio.low, ratio.high]

    return {
        "machine": machine,
        "trials": [
            {
                "knob": t.knob, "settings": t.settings, "ratio": interval(t.ratio),
                "reason": t.reason, "taken": t.taken,
            }
            for t in found.trials
        ],
        "changes": found.changes,
        "ratio": None if found.total is None else interval(found.total.ratio),
    }  # fmt: skip


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

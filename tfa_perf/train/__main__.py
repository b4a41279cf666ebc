"""``python -m tfa_perf.train``: the same as ``tfa-perf train``; torchrun starts it so."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tfa_kernels import SpecError
from tfa_perf.arguments import add_shared_arguments, command_parser, positive
from tfa_perf.config import ConfigError, load_config
from tfa_perf.data.bars import Bars, BarsError, load_bars
from tfa_perf.data.split import SplitError
from tfa_perf.data.store import FeatureStore, StoreError, open_store
from tfa_perf.interrupts import exit_code, interruptible
from tfa_perf.train.checkpoint import CheckpointError
from tfa_perf.train.csv_log import LogError
from tfa_perf.train.devices import DeviceError, pick_device
from tfa_perf.train.memory import DeviceMemoryError
from tfa_perf.train.ranks import local_rank, torchrun_ranks
from tfa_perf.train.run import train

__all__ = ["main", "parser"]

_NOTES = """\
several processes: torchrun --nproc-per-node N -m tfa_perf.train ...
  batch_size stays that of all processes together, so losses are those of one process.

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the arguments say; returns the exit code.

    A failure among several processes ends this one at once: the others may be waiting for it.
    """
    args = parser().parse_args(argv)
    # A last search for cycles among torch's modules would take a second.
    atexit.register(gc.freeze)
    try:
        with interruptible():
            _train(args)
        return 0
    except KeyboardInterrupt as error:
        code, message = exit_code(error), str(error) or "interrupted"
    except _INPUT_ERRORS as error:
        code, message = 2, f"error: {error}"
    except (DeviceMemoryError, OSError) as error:
        code, message = 1, f"failed: {error}"
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = str(error).strip().partition("\n")[0]
            code, message = 1, f"failed: torch.compile: {reason}; --no-compile trains without it"
        elif local_rank() is None:
            raise
        else:
            code, message = 1, traceback.format_exc()
    rank = "" if local_rank() is None else f"rank {os.environ.get('RANK')}: "
    print(f"tfa-perf: {rank}{message}", file=sys.stderr, flush=True)
    if local_rank() is not None:
        sys.stdout.flush()
        # An orderly exit would wait for communication that the others may never join.
        os._exit(code)
    return code


_INPUT_ERRORS = (
    ConfigError,
    SpecError,
    BarsError,
    SplitError,
    StoreError,
    DeviceError,
    CheckpointError,
    LogError,
)


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tfa-perf train``."""
    parser = command_parser("tfa-perf train", "Bars or a store to a fitted model.", notes=_NOTES)
    data = add_shared_arguments(parser, config="tuned")
    data.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="features and labels that tfa-perf features wrote, in place of bars",
    )
    parser.add_argument("--steps", type=positive, help="stop after this many optimizer steps")
    parser.add_argument("--out", type=Path, help="file to write the model to")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="DIR", help="folder for last.pt and best.pt"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from last.pt in the --checkpoints folder"
    )
    # torchrun takes --log for an abbreviation of options of its own.
    parser.add_argument(
        "--log",
        "--csv-log",
        type=Path,
        metavar="FILE",
        help="CSV file, one row a validation; --csv-log under torchrun",
    )
    parser.add_argument(
        "--tensorboard",
        type=Path,
        metavar="DIR",
        help="folder for TensorBoard's event files, one point a validation",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="run the model through torch.compile (default: the config's train.compile)",
    )
    parser.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="replay one CUDA graph a step (default: the config's train.graph)",
    )
    return parser


def _train(args: argparse.Namespace) -> None:
    switches = [
        f"train.{name}={str(value).lower()}"
        for name in ("compile", "graph")
        if (value := getattr(args, name)) is not None
    ]
    config = load_config(args.config, [*args.overrides, *switches])
    device = pick_device(args.device, local_rank=local_rank())
    if config.train.graph and device.type != "cuda":
        raise DeviceError(f"graph: a CUDA graph needs a CUDA device, this run is on {device}")
    data: Bars | FeatureStore
    if args.store is not None:
        data = open_store(args.store)
    else:
        data = load_bars(config.data.bars if args.bars is None else args.bars)
    with torchrun_ranks(device) as ranks:
        if ranks.first and args.out is None and args.checkpoints is None:
            print("the model will not be kept; --out FILE or --checkpoints DIR keeps it")
        train(
            config,
            data,
            device,
            max_steps=args.steps,
            out=args.out,
            checkpoints=args.checkpoints,
            resume=args.resume,
            log=args.log,
            tensorboard=args.tensorboard,
            ranks=ranks,
        )


if __name__ == "__main__":
    sys.exit(main())

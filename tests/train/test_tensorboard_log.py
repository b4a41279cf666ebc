import csv
import io
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from tfa_perf.data.bars import load_bars
from tfa_perf.train.csv_log import COLUMNS
from tfa_perf.train.run import train
from tfa_perf.train.tensorboard_log import TAGS, TensorBoardLog


def scalars(folder):
    """What TensorBoard shows: by tag, the points (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def fit(config, folder, **options):
    train(
        config,
        load_bars("synthetic:3000"),
        torch.device("cpu"),
        log=folder / "log.csv",
        tensorboard=folder / "events",
        checkpoints=folder,
        console=Console(file=io.StringIO()),
        **options,
    )


def same_as_csv(folder):
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = scalars(folder / "events")
    assert sorted(shown) == sorted(TAGS.values())
    for column, tag in TAGS.items():
        assert [step for step, _ in shown[tag]] == [int(row["step"]) for row in rows]
        assert [v for _, v in shown[tag]] == pytest.approx([float(r[column]) for r in rows])
    return len(rows)


def test_tensorboard_shows_what_the_csv_log_holds_after_a_resumption_too(tmp_path, tiny_config):
    config = tiny_config("train.epochs=3", "train.schedule=cosine", "train.checkpoint_every=1")
    fit(config, tmp_path, max_steps=4)
    rows = same_as_csv(tmp_path)
    # Logged by a run that was killed before its next checkpoint.
    lost = TensorBoardLog(tmp_path / "events", after=4)
    lost.write(*[99 if column == "step" else 7.0 for column in COLUMNS])
    lost.close()
    assert scalars(tmp_path / "events")["lr"][-1] == (99, 7.0)
    fit(config, tmp_path, resume=True)
    assert same_as_csv(tmp_path) > rows
    # A new run into the same folder starts anew.
    fit(config, tmp_path, max_steps=4)
    assert same_as_csv(tmp_path) == rows


def test_without_the_package_the_command_that_installs_it_is_named(tmp_path):
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "from tfa_perf.train.__main__ import main\n"
        "sys.exit(main(['--bars', 'synthetic:3000', '--tensorboard', 'events']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "pip install 'tfa-perf[tensorboard]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "train loss" not in done.stdout

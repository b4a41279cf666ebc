import subprocess
import sys

import pytest

from tfa_perf.train.csv_log import COLUMNS
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


def same(rows, shown):
    assert sorted(shown) == sorted(TAGS.values())
    for column, tag in TAGS.items():
        assert [step for step, _ in shown[tag]] == [int(row["step"]) for row in rows]
        assert [v for _, v in shown[tag]] == pytest.approx([float(r[column]) for r in rows])
    return len(rows)


def test_tensorboard_shows_what_the_csv_log_holds_after_a_resumption_too(
    tmp_path, tiny_config, fit, logged
):
    config = tiny_config("train.epochs=3", "train.schedule=cosine", "train.checkpoint_every=1")
    events = tmp_path / "events"
    fit(config, tmp_path, tensorboard=events, max_steps=4)
    rows = same(logged(tmp_path), scalars(events))
    # Logged by a run that was killed before its next checkpoint.
    lost = TensorBoardLog(events, after=4)
    lost.write(*[99 if column == "step" else 7.0 for column in COLUMNS])
    lost.close()
    assert scalars(events)["lr"][-1] == (99, 7.0)
    fit(config, tmp_path, tensorboard=events, resume=True)
    assert same(logged(tmp_path), scalars(events)) > rows
    # A new run into the same folder starts anew.
    fit(config, tmp_path, tensorboard=events, max_steps=4)
    assert same(logged(tmp_path), scalars(events)) == rows


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

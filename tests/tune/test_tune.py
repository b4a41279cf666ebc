import json

import pytest
import torch

from tfa_perf import cli
from tfa_perf.claims import paired
from tfa_perf.claims.measure import Ratio
from tfa_perf.claims.paired import Comparison
from tfa_perf.config import load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.data.dataset import build_dataset
from tfa_perf.tune import search
from tfa_perf.tune.command import batch_note, config_text
from tfa_perf.tune.search import Knob, Tuned, fastest, knobs, tune

CPU = torch.device("cpu")
TINY = [
    "model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8",
    "data.window=8", "train.batch_size=64",
]  # fmt: skip
FLAGS = [part for key in TINY for part in ("--set", key)]


@pytest.fixture(scope="module")
def config():
    return load_config("report", TINY)


@pytest.fixture(scope="module")
def dataset(config):
    return build_dataset(load_bars("synthetic:600"), config.data)


def compared(low, median, again=(0.9, 1.1)):
    ratios = [Ratio(m, a, b, 0.95, 6) for m, a, b in ((median, low, 9.0), (1.0, *again))]
    return Comparison(*ratios, 1.0, 1.0)


def test_the_fastest_is_taken_whose_interval_says_so():
    faster = {"a": compared(1.01, 1.3), "b": compared(1.04, 1.2), "c": compared(0.99, 1.9)}
    assert fastest(faster, 1.0) == "a"
    assert fastest(faster, 1.02) == "b"
    assert fastest(faster, 1.05) is None
    assert fastest({"a": compared(1.3, 1.5, again=(1.01, 1.1))}, 1.0) is None
    assert fastest({}, 1.0) is None


def test_what_is_taken_is_in_the_config_and_what_it_has_is_not_tried(config, dataset, monkeypatch):
    knob = Knob("micro-batch", ({"micro_batch": 16}, {"micro_batch": 64}, {"micro_batch": 65}))
    monkeypatch.setattr(search, "knobs", lambda *args, **options: iter([knob]))
    monkeypatch.setattr(search, "fastest", lambda compared, gain: max(compared))
    seen = []
    start = search._changed(config, {"micro_batch": 32})
    found = tune(start, dataset, CPU, seconds=0.1, announce=seen.append)
    # There are no micro-batches of 65 windows in batches of 64.
    assert [(t.settings["micro_batch"], t.taken) for t in seen] == [(16, False), (64, True)]
    assert found.changes == {"micro_batch": 64}
    assert found.config == search._changed(start, {"micro_batch": 64})
    assert found.total.ratio.pairs >= 6
    again = search._trials(knob, found.config, dataset, CPU, 0.1)
    assert [t.settings["micro_batch"] for t in again] == [16]


def test_what_does_not_run_is_left_out_with_the_reason(config, dataset, monkeypatch):
    knob = Knob("step", ({"graph": True}, {"threads": 10_000}))
    monkeypatch.setattr(search, "knobs", lambda *args, **options: iter([knob]))
    found = tune(config, dataset, CPU, seconds=0.1)
    assert found.changes == {}
    assert "CUDA device" in found.trials[0].reason
    assert "num_threads is 10000" in found.trials[1].reason


def test_sides_train_on_as_many_windows(config, dataset, monkeypatch):
    """A batch of another size is not faster for having fewer windows."""
    knob = Knob("batch", ({"batch_size": 16}, {"batch_size": 96}, {"batch_size": 10_000}))
    monkeypatch.setattr(search, "knobs", lambda *args, **options: iter([knob]))
    counts = []

    def compare(base, others, **options):
        sides = [base, *others.values()]
        counts.extend(side._count for side in sides)
        return paired.compare(base, others, **options)

    monkeypatch.setattr(search, "compare", compare)
    found = tune(config, dataset, CPU, seconds=0.1)
    # 192 windows are whole steps of 64, 16 and 96; there are no 10,000 windows.
    assert counts[:3] == [3, 12, 2]
    assert [t.settings["batch_size"] for t in found.trials] == [16, 96]


def test_knobs_of_a_cpu_leave_the_gradient_alone_but_for_the_batch(config):
    names = [k.name for k in knobs(config, CPU, keep_batch=False)]
    assert names == ["step", "threads", "batch", "micro-batch"]
    kept = [o for k in knobs(config, CPU, keep_batch=True) for o in k.options]
    assert not any("batch_size" in o for o in kept)


def test_steps_a_graph_are_tried_where_there_is_a_graph_and_a_pass_has_so_many(
    config, dataset, monkeypatch
):
    names = [k.name for k in knobs(config, torch.device("cuda"), keep_batch=True)]
    assert names[:2] == ["step", "steps a graph"]
    assert "steps a graph" not in [k.name for k in knobs(config, CPU, keep_batch=True)]
    tried = []
    monkeypatch.setattr(search, "_side_or_reason", lambda c, *_: tried.append(c) or (None, ""))
    (knob,) = (
        k for k in knobs(config, torch.device("cuda"), keep_batch=True) if "a graph" in k.name
    )
    for graph in (False, True):
        search._trials(knob, search._changed(config, {"graph": graph}), dataset, CPU, 0.1)
    windows = len(dataset.split.train_ends)
    assert 4 <= windows // 64 < 8
    assert [c.train.graph_steps for c in tried] == [4]


def test_sides_take_whole_graphs_of_each(config, dataset):
    several = search._changed(config, {"graph_steps": 8})
    assert search._common_windows([config, several]) == 8 * 64
    side = search._Side(several, dataset, CPU, 8 * 64)
    before = side._trainer.done
    side()
    assert side._trainer.done == before + 8


def test_a_changed_batch_is_told_plainly(config):
    larger = Tuned(config, search._changed(config, {"batch_size": 256}))
    assert "256 instead of 64: a gradient is the mean over 4 times as many" in batch_note(larger)
    assert "no trial has measured it" in batch_note(larger)
    smaller = Tuned(config, search._changed(config, {"batch_size": 32}))
    assert "mean over 2 times fewer windows, and an epoch has more steps" in batch_note(smaller)


def test_the_written_config_is_the_one_that_was_found(config, tmp_path):
    found = Tuned(config, search._changed(config, {"micro_batch": 32, "threads": 1}))
    path = tmp_path / "here.yaml"
    path.write_text(config_text(found, ["a note"]))
    assert path.read_text().startswith("# a note\n")
    assert load_config(path) == found.config


def test_the_command_writes_a_config_and_prints_json(tmp_path, monkeypatch, capsys):
    # Another number than the one that the trials start with.
    other = {"threads": torch.get_num_threads() % 2 + 1}
    monkeypatch.setattr(search, "knobs", lambda *args, **options: iter([Knob("threads", (other,))]))
    monkeypatch.chdir(tmp_path)
    command = ["tune", *FLAGS, "--bars", "synthetic:600", "--device", "cpu", "--seconds", "0.1"]
    assert cli.main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert [t["settings"] for t in result["trials"]] == [other]
    assert "machine: " in printed.err and "wrote tuned-here.yaml" in printed.err
    assert load_config(tmp_path / "tuned-here.yaml").train.threads == result["changes"].get(
        "threads"
    )


def test_a_config_that_cannot_be_written_is_told_before_the_trials(tmp_path, capsys):
    assert cli.main(["tune", *FLAGS, "--device", "cpu", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "cannot be written (it is a folder)" in printed.err and printed.out == ""

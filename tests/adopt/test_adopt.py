"""``tfa-perf adopt`` on real trainers, and its arithmetic on measured runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tfa_perf.adopt.advice import LEAST_SHARE, advise
from tfa_perf.adopt.pieces import GRAPH, PIECES
from tfa_perf.cli import main
from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.gpu_trace import GpuTrace
from tfa_perf.profile.laps import Lap
from tfa_perf.profile.phases import Recorder
from tfa_perf.profile.run_file import RunFile, SamplerUsed, StackTable
from tfa_perf.profile.steps import StepLog
from tfa_perf.profile.verdict import RULES

TRAIN = """
import sys, time
import torch
from torch.utils.data import DataLoader, Dataset

WAIT, COMPUTE = map(float, sys.argv[1:])


class Rows(Dataset):
    def __len__(self):
        return 5000

    def __getitem__(self, index):
        time.sleep(WAIT)
        return torch.ones(8), torch.ones(1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def forward(self, x):
        time.sleep(COMPUTE)
        return self.layer(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
try:
    for x, y in DataLoader(Rows(), 1):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    print("its own end")
finally:
    print("cleaned up")
"""


@pytest.fixture
def train(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return str(path)


def test_a_trainer_that_waits_for_data(train: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", "--json", "--steps", "15", train, "0.04", "0.001"]) == 0
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    # The program ended early, and as it would by sys.exit().
    assert "cleaned up" in printed.err and "its own end" not in printed.err
    assert found["measured_steps"] == 14 and found["device"] == "cpu"
    first = found["advice"][0]
    assert first["piece"] == "WindowDataset" and any("+loader" in line for line in first["lines"])
    assert (Path(__file__).parents[2] / first["example"]).is_dir()
    assert list(first["phases"]) == ["data_wait"]
    assert first["phases"]["data_wait"] == found["phases"]["data_wait"] > 60
    assert first["at_most"] == pytest.approx(1 / (1 - first["share"]), abs=0.01)
    assert Path(train).read_text() == TRAIN


def test_a_trainer_that_does_not(train: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", "--steps", "500", "--seconds", "1", train, "0", "0.2"]) == 0
    printed = capfd.readouterr().out
    assert "none of our pieces would pay\n" in printed
    assert "WindowDataset" not in printed
    assert re.search(r"forward and backward are (9\d|100) % of the step", printed)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("print('{}'); raise SystemExit(7)", 1, "failed with exit code 7"),
        ("print('hello')", 1, "0 optimizer steps are too few to measure"),
        (None, 2, "cannot find the script"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    text: str | None, code: int, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "script.py"
    if text is not None:
        path.write_text(text)
    assert main(["adopt", "--json", str(path)]) == code
    printed = capfd.readouterr()
    assert printed.out == ""
    assert words in printed.err.splitlines()[-1]
    assert "Traceback" not in printed.err


def test_nothing_to_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", "--json"]) == 2
    assert "nothing to run" in capfd.readouterr().err


@pytest.fixture(scope="module")
def measured() -> RunFile:
    """A run of a few steps, whose phases the tests below choose."""
    recorder = Recorder()
    log = StepLog(recorder)
    for _ in range(5):
        log.cut()
    now = datetime.now(timezone.utc)
    return RunFile(
        name="train", command=["train.py"], exit_code=0, started=now, finished=now, wall_s=10.0,
        versions={}, machine={}, sampler=SamplerUsed(name="none", reason="asked", rate=100),
        times=log.finish(), samples=StackTable(frames=[], stacks=[]),
    )  # fmt: skip


def of(
    run: RunFile,
    phases: dict[str, float],
    trace_busy_ms: float = 0,
    replay_s: float = 0,
    **machine: str,
) -> Any:
    """Advice on 4 steps of 2.5 s each, with these seconds of phases and ``other``.

    The device replays a captured step for `replay_s` of a step.
    """
    lap = Lap(10.0, {"other": 10.0 - sum(phases.values()), **phases}, {})
    assert run.times is not None
    device = DeviceTimes(1, {"graph_replay": replay_s}) if replay_s else None
    times = replace(run.times, measured=lap, device=device)
    trace = None
    if trace_busy_ms:
        trace = GpuTrace(9, 1, 3000.0, trace_busy_ms, 0.0, [], [])
    return advise(run.model_copy(update={"times": times, "machine": machine, "gpu_trace": trace}))


def test_amdahl_and_the_device(measured: RunFile) -> None:
    report = of(measured, {"data_wait": 3.8, "forward": 6.0})
    (advice,) = report.advice
    assert (advice.piece, advice.at_most) == ("WindowDataset", 1.61)
    assert report.at_most_together == 1.61
    report = of(measured, {"data_wait": 2.0, "h2d": 1.0, "loss_read": 2.5, "forward": 4}, gpu="H")
    assert [a.piece for a in report.advice] == ["WindowLoader, table on the device", "make_step"]
    assert [a.at_most for a in report.advice] == [1.43, 1.33]
    assert report.at_most_together == 2.22
    # item() costs nothing without a device to wait for.
    assert of(measured, {"loss_read": 2.0, "forward": 7.5}).advice == ()


def test_what_the_device_idles_bounds_a_graph(measured: RunFile) -> None:
    report = of(measured, {"forward": 9.5}, trace_busy_ms=500.0, gpu="H")
    assert [(a.piece[:9], a.at_most) for a in report.advice] == [("make_step", 5.0)]
    assert of(measured, {"graph_replay": 9.5}, trace_busy_ms=500.0, gpu="H").advice == ()


def test_a_host_that_waits_for_replays_needs_nothing(measured: RunFile) -> None:
    waits = {"loss_read": 7.0, "graph_replay": 0.2}
    assert of(measured, waits, replay_s=1.5, gpu="H").advice
    report = of(measured, waits, replay_s=2.3, gpu="H")
    assert (report.advice, report.at_most_together) == ((), 1.0)
    assert report.note.startswith("the device replays the captured step 92 %")


def test_a_few_percent_or_nothing(measured: RunFile) -> None:
    below, above = 10 * LEAST_SHARE - 0.01, 10 * LEAST_SHARE + 0.01
    assert of(measured, {"logging": below, "forward": 9}).advice == ()
    assert [a.piece for a in of(measured, {"logging": above, "forward": 9}).advice] == [
        "logging interval"
    ]
    assert "is in no phase" in of(measured, {"forward": 5}).note


def test_names_of_ours_in_the_lines_are_imported() -> None:
    for piece in (*PIECES, GRAPH):
        text = "\n".join(piece.lines)
        imports = "\n".join(line[1:] for line in piece.lines if line.startswith("+from"))
        names: dict[str, Any] = {}
        exec(imports, names)
        for name in ("WindowDataset", "WindowLoader", "make_step", "make_optimizer"):
            assert name not in text.replace(f"loader: {name}", "") or name in names, (piece, name)


def test_pieces_answer_rules_that_there_are() -> None:
    names = {rule.name for rule in RULES}
    assert {name for piece in PIECES for name in piece.rules} <= names

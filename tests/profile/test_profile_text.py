from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.flame import build_tree
from tfa_perf.profile.laps import OTHER, Lap
from tfa_perf.profile.run import Run
from tfa_perf.profile.run_file import RunFile, SamplerUsed, StackTable
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import Stack
from tfa_perf.profile.steps import PhaseRow, PhaseTimes
from tfa_perf.profile.text import hottest, print_text
from tfa_perf.profile.verdict import RULES, verdict

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def run_file(phases: dict[str, float], steps: int = 50, **machine: str) -> RunFile:
    """A run whose measured steps took these seconds in each phase, of 10 in all."""
    lap = Lap(10.0, {**phases, OTHER: 10.0 - sum(phases.values())}, {})
    times = PhaseTimes(
        steps=50, warmup_steps=5, measured_steps=steps, compile_steps=0, wall_s=12.0, measured=lap,
        warmup=lap, compile=lap, whole=lap, step_median_s=0.2, step_p95_s=0.2, window=(0.2, 1.0),
    )  # fmt: skip
    return RunFile(
        name="train", command=["train.py"], exit_code=0, started=NOW, finished=NOW, wall_s=13.0,
        versions={}, machine=machine, sampler=SamplerUsed(name="none", reason="asked", rate=100),
        times=times, samples=StackTable(frames=[], stacks=[]),
    )  # fmt: skip


def test_waiting_for_a_device_that_replays_all_the_time_is_no_fault() -> None:
    run = run_file({"loss_read": 7.0, "graph_replay": 0.2}, gpu="H200")
    assert run.times is not None
    assert verdict(run).startswith("loss read 70 %")
    # 10 s of 50 steps are 200 ms a step.
    for device_ms, said in ((170.0, "the device replays the captured step 85 %"), (150.0, "loss")):
        device = DeviceTimes(10, {"graph_replay": device_ms / 100, "loss_read": 0.1})
        times = replace(run.times, device=device)
        assert verdict(run.model_copy(update={"times": times})).startswith(said)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.name}-{rule.on}")
def test_each_rule_speaks_from_its_share_on(rule: Any) -> None:
    gpu = {} if rule.on == "cpu" else {"gpu": "H200"}
    phase = rule.phases[0]

    def said(share: float) -> str:
        rest = 10 * (1 - share)
        phases = {"forward": rest / 2, "mine": rest / 2} if phase == OTHER else (
            {phase: 10 * share, "forward": rest / 2, "mine": rest / 2}
        )  # fmt: skip
        return verdict(run_file(phases, **gpu))

    assert said(rule.share + 0.01).startswith(f"{rule.name} {100 * rule.share + 1:.0f} % of the")
    assert said(rule.share + 0.01).endswith(rule.advice)
    assert said(rule.share - 0.01) == ""


def test_advice_follows_the_device() -> None:
    phases = {"data_wait": 3.8, "forward": 6.0}
    on_gpu, on_cpu = verdict(run_file(phases, gpu="H200")), verdict(run_file(phases))
    assert on_gpu.startswith("data wait 38 % of the step: try WindowLoader(device=")
    assert "device=" not in on_cpu
    # item() costs nothing without a device to wait for.
    assert "item()" in verdict(run_file({"loss_read": 2.0, "mine": 7.0}, gpu="H200"))
    assert verdict(run_file({"loss_read": 2.0, "mine": 7.0})) == ""


def test_the_longest_of_several_speaks_and_the_model_only_alone() -> None:
    assert verdict(run_file({"data_wait": 2.0, "logging": 4.0})).startswith("logging 40 %")
    model = {"forward": 4.0, "backward": 4.5}
    assert verdict(run_file(model)).startswith("forward and backward 85 % of the step")
    assert verdict(run_file({**model, "logging": 0.9})).startswith("logging 9 %")


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert verdict(run_file({"data_wait": 9.0}, steps=0)) == ""
    assert verdict(run_file({"forward": 4.0, "mine": 4.0})) == ""
    run = run_file({"data_wait": 9.0})
    assert verdict(run.model_copy(update={"times": None})) == ""


frames = st.lists(st.sampled_from("abcd"), min_size=1, max_size=5).map(tuple)


@given(st.lists(st.tuples(frames, st.integers(1, 1000)), min_size=1, max_size=40))
def test_hottest_paths_are_those_with_the_most_time_of_their_own(
    pairs: list[tuple[tuple[str, ...], int]],
) -> None:
    own: dict[tuple[str, ...], int] = {}
    for path, weight in pairs:
        own[path] = own.get(path, 0) + weight
    naive = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:10]
    found = hottest(build_tree(pairs))
    assert [(path.frames, round(path.ms)) for path in found] == naive


ROWS = [PhaseRow("forward", 3.0, 0.75, 1.0, 0.7), PhaseRow("other", 1.0, 0.25, 0.0, 0.3)]
DEEP = ("forward", "main (train.py:1)", *(f"f{i} (train.py:{i})" for i in range(30)))
RUN = Run("[b]run", [Stack(MAIN, DEEP, 0.7), Stack(MAIN, ("other",), 0.3)], 9, 4.0, ROWS,
          rate=100, note="9 steps", verdict="data wait 38 %: try [this]")  # fmt: skip


def printed(run: Run = RUN, encoding: str = "utf-8", width: int = 80, **options: Any) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_text(Console(file=stream, width=width, **options), run)
    stream.seek(0)
    return stream.read()


def test_text_has_bars_paths_and_verdict() -> None:
    text = printed()
    assert text.startswith("[b]run: 4.000 ms/step\n")
    (line,) = re.findall(r"forward .*\n", text.split("hottest")[0])
    assert line.split() == ["forward", "3.000", "75.0", "%", 22 * "█", "stacks", "70.0", "%"]
    assert "hottest paths of 100 stacks" in text
    assert " 70.0 %     2.800 ms/step forward > ... > f" in text
    assert "> f29 (train.py:29)\n" in text
    assert text.endswith("\ndata wait 38 %: try [this]\n")
    assert max(len(line) for line in text.splitlines() if "ms/step" in line) <= 80


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (90, "ms/step other > import > <module> (torch/nn/modules/__init__.py)"),
        (70, "ms/step other > ... > <module> (...ules/__init__.py)"),
        (50, "ms/step other > ... > <module>"),
    ],
)
def test_a_place_too_long_loses_its_beginning_first(width: int, shown: str) -> None:
    frames = ("other", "import", "<module> (torch/nn/modules/__init__.py)")
    text = printed(replace(RUN, stacks=[Stack(MAIN, frames, 1.0)]), width=width)
    (line,) = [line for line in text.splitlines() if "<module>" in line]
    assert line.endswith(shown)
    assert len(line) <= width


def test_colours_are_for_terminals_and_blocks_for_unicode() -> None:
    assert "\x1b" not in printed()
    assert "\x1b[" in printed(force_terminal=True, color_system="truecolor")
    assert 22 * "#" in printed(encoding="ascii")


STEPS = (
    "import time, torch\n"
    "from tfa_perf.profile import phase\n"
    "w = torch.nn.Parameter(torch.ones(3))\n"
    "optimizer = torch.optim.SGD([w], lr=0.1)\n"
    "for _ in range(12):\n"
    "    with phase('augment'):\n"
    "        time.sleep(0.02)\n"
    "    (w * w).sum().backward()\n"
    "    optimizer.step()\n"
)


RUNS = {
    "text": (
        ["--text", "--sampler", "inprocess", "--rate", "200", "--fail-if", "augment>5%"], ""
    ),
    "no such phase": (["--sampler", "none", "--fail-if", "augmnet>5%"], ""),
    "fails itself": (["--sampler", "none", "--fail-if", "augment>5%"], "raise SystemExit(7)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, two_at_a_time: Callable[..., dict[str, Any]]
) -> dict[str, subprocess.CompletedProcess[str]]:
    """The steps under each of the commands."""
    folder = tmp_path_factory.mktemp("text")

    def run(name: str) -> subprocess.CompletedProcess[str]:
        options, ending = RUNS[name]
        (folder / name).mkdir()
        (folder / name / "script.py").write_text("print('mine')\n" + STEPS + ending)
        return subprocess.run(
            [sys.executable, "-m", "tfa_perf.profile", "--out",
             str(folder / name / "out"), *options, "--", "script.py"],
            cwd=folder / name, capture_output=True, text=True, timeout=100,
        )  # fmt: skip

    return two_at_a_time(run, RUNS)


def test_text_of_a_real_run(done: dict[str, subprocess.CompletedProcess[str]]) -> None:
    text = done["text"]
    assert (text.returncode, text.stdout) == (1, "mine\n")
    assert "augment>5%: met, augment is " in text.stderr
    assert "hottest paths of " in text.stderr
    assert "augment > <module> (script.py)" in text.stderr
    assert "█" in text.stderr or "#" in text.stderr
    assert "\x1b" not in text.stderr
    (picture,) = [line.strip() for line in text.stderr.splitlines() if "flame.svg" in line]
    assert (Path(text.args[text.args.index("--out") + 1]) / "flame.svg").samefile(picture)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no such phase", 2, "there is no phase 'augmnet'"),
        ("fails itself", 7, "exit code 7"),
    ],
)
def test_conditions_set_the_exit_code(
    name: str, code: int, words: str, done: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert done[name].returncode == code, done[name].stderr
    assert words in done[name].stderr


def test_conditions_that_cannot_be_told_are_exit_code_2(
    script: Callable[[str], Path], profile_command: Any, refused: Callable[..., str]
) -> None:
    path = script("print('ran')")
    done = profile_command("--sampler", "none", "--fail-if", "step_ms>1", "--", str(path))
    assert (done.returncode, done.stdout) == (2, "ran\n")
    assert "no steps were measured" in done.stderr
    for text, why in (("step_ms>+5%", "compares two runs"), ("step", "give PHASE>SHARE%")):
        assert why in refused("--fail-if", text, "--", str(path))

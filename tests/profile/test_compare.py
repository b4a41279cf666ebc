from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tfa_perf.cli import main
from tfa_perf.profile.comparison import NotComparableError, compare_runs, mismatches
from tfa_perf.profile.difference import Difference
from tfa_perf.profile.run import Run
from tfa_perf.profile.run_file import RunFile, read_run, write_run
from tfa_perf.profile.sampler import run_profiled

SCRIPT = """
import sys, time, torch
from tfa_perf.profile import phase

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)


def steady():
    time.sleep(0.006)


{function}


for _ in range(40):
    with phase("augment"):
        {call}
    with phase("steady"):
        steady()
    (w * w).sum().backward()
    optimizer.step()
"""
OLD = ("def gone():\n    time.sleep(0.004)", "gone()")
NEW = ("# one line more\ndef added():\n    time.sleep(0.012)", "added()")


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, two_at_a_time: Callable[..., dict[str, Path]]
) -> tuple[Path, Path]:
    """Run folders of a script before and after a change of its phase `augment`."""
    base = tmp_path_factory.mktemp("runs")

    def run(name: str) -> Path:
        folder = base / f"{name}-script"
        folder.mkdir()
        function, call = OLD if name == "before" else NEW
        script = folder / "train.py"
        script.write_text(SCRIPT.format(function=function, call=call))
        result = run_profiled(
            [str(script), "--batch", "32"], folder / name, sampler="inprocess", rate=200
        )
        assert result.exit_code == 0
        return folder / name

    folders = two_at_a_time(run, ("before", "after"))
    return folders["before"], folders["after"]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def tfa_perf(*args: object) -> Done:
    """``tfa-perf compare ARGS``, in this process."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(["compare", *map(str, args)])
    return Done(code, out.getvalue(), err.getvalue())


def changed(run: RunFile, **fields: Any) -> RunFile:
    return run.model_copy(update=fields)


def test_slower_phase_is_told_from_the_one_that_stayed(runs: tuple[Path, Path]) -> None:
    found = compare_runs(*map(read_run, runs))
    assert found.mismatches == ()
    augment, step = found["augment"], found.step
    assert (augment.verdict, step.verdict) == ("slower", "slower")
    assert augment.before_ms > 4 and augment.after_ms > 12
    assert augment.interval is not None
    assert augment.interval.low < augment.ms < augment.interval.high
    phases = found.phases
    assert phases[-1].name == "other"
    assert sum(p.before_ms for p in phases) == pytest.approx(step.before_ms)
    assert sum(p.after_share for p in phases) == pytest.approx(1)
    again = compare_runs(read_run(runs[0]), read_run(runs[0]))
    assert again.step.verdict == again["augment"].verdict == "no change detected"
    assert again.step.ms == 0
    back = compare_runs(*map(read_run, runs[::-1]))
    assert back["augment"].verdict == "faster"
    assert back.step.ms == -step.ms


def test_frames_that_came_and_went_are_listed(runs: tuple[Path, Path]) -> None:
    before, after = (Run.of(read_run(folder)) for folder in runs)
    difference = Difference(before, after)
    new, removed = difference.new(), difference.removed()
    assert [frame.path[0] for frame in (new[0], removed[0])] == ["augment", "augment"]
    assert new[0].path[-1] == "added (train.py)"
    assert removed[0].path[-1] == "gone (train.py)"
    # `steady` moved down by a line and stayed what it was.
    assert not any("steady" in name for frame in (*new, *removed) for name in frame.path)


def test_command_prints_and_writes_the_page(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = tfa_perf(*runs, "--out", tmp_path / "d.html")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.strip().startswith("augment"))
    assert line.split()[-1] == "slower"
    assert "new: augment > <module> (train.py) > added (train.py)" in done.stdout
    assert "removed: augment > <module> (train.py) > gone (train.py)" in done.stdout
    assert "\x1b" not in done.stdout
    page = (tmp_path / "d.html").read_text()
    assert "New frames" in page and "Removed frames" in page
    files = [str(folder / "run.json") for folder in runs]
    again = subprocess.run(
        [sys.executable, "-m", "tfa_perf", "compare", *files], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]
    assert (runs[1] / "against-before.html").exists()


def test_json_says_the_same(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = tfa_perf(*runs, "--json", "--fail-if", "augment>5%", "--out", tmp_path / "d.html")
    assert done.returncode == 1
    data = json.loads(done.stdout)
    phases = {phase["phase"]: phase for phase in data["phases"]}
    assert phases["augment"]["verdict"] == data["step"]["verdict"] == "slower"
    low, high = phases["augment"]["interval_ms"]
    assert low < phases["augment"]["difference_ms"] < high
    assert data["new"][0]["path"][-1] == "added (train.py)"
    assert data["conditions"][0]["met"] is True
    assert data["page"] == str(tmp_path / "d.html")


@pytest.mark.parametrize(
    ("condition", "code"),
    [("step_ms>+10%", 1), ("step_ms>+900%", 0), ("augment>5%", 1), ("augment_ms>5000", 0)],
)
def test_conditions_set_the_exit_code(
    condition: str, code: int, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    done = tfa_perf(*runs, "--fail-if", condition, "--out", tmp_path / "d.html")
    assert done.returncode == code, done.stderr
    assert f"{condition}: {'met' if code else 'not met'}, " in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--fail-if", "step>5"], "is not a condition; give PHASE>SHARE%"),
        (["--fail-if", "wait>5%"], "there is no phase 'wait'"),
    ],
)
def test_bad_conditions_are_one_line_and_exit_code_2(
    args: list[str], words: str, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    done = tfa_perf(*runs, *args, "--out", tmp_path / "d.html")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d.html").exists()


def test_no_run_or_a_newer_one_is_exit_code_2(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = tfa_perf(runs[0], tmp_path)
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)
    data = json.loads((runs[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**data, "format": 99}))
    done = tfa_perf(runs[0], tmp_path)
    assert (done.returncode, "upgrade tfa-perf" in done.stderr) == (2, True)


def test_other_settings_are_refused_unless_named_or_forced(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    after = read_run(runs[1])
    other = [*after.command[:1], "--batch", "64", "--amp"]
    (tmp_path / "other").mkdir()
    write_run(tmp_path / "other", changed(after, command=other))
    done = tfa_perf(runs[0], tmp_path / "other")
    assert done.returncode == 2
    assert "batch: 32 before, 64 after; amp: none before, given after" in done.stderr
    assert "--changed 'batch' --changed 'amp'" in done.stderr
    assert done.stderr.count("\n") == 1
    done = tfa_perf(runs[0], tmp_path / "other", "--changed", "batch")
    assert (done.returncode, "amp: none before" in done.stderr) == (2, True)
    for args in (["--changed", "batch", "--changed=--amp"], ["--force"]):
        done = tfa_perf(runs[0], tmp_path / "other", *args)
        assert done.returncode == 0, done.stderr
        assert "differs: batch: 32 before, 64 after" in done.stdout


def slowed(run: RunFile, factor: float) -> RunFile:
    """The run as on a machine that is `factor` slower for the while."""
    assert run.times is not None
    lap = run.times.measured
    phases = {name: factor * seconds for name, seconds in lap.phases.items()}
    lap = replace(lap, wall_s=factor * lap.wall_s, phases=phases)
    return changed(run, times=replace(run.times, measured=lap))


def test_repeats_take_in_what_the_machine_does_between_runs(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    before, after = map(read_run, runs)
    before_runs = [slowed(before, factor) for factor in (1.0, 1.4, 0.8, 1.1)]
    after_runs = [slowed(before, factor) for factor in (1.3, 0.9, 1.2)]
    found = compare_runs(
        before_runs[0], after_runs[0], more_before=before_runs[1:], more_after=after_runs[1:]
    )
    assert found.runs == (4, 3)
    assert found.step.verdict == "no change detected"
    times = before.times
    assert times is not None
    assert found.step.before_ms == pytest.approx(times.ms_per_step * 4.3 / 4)
    assert found.step.after_ms == pytest.approx(times.ms_per_step * 3.4 / 3)
    real = [slowed(after, factor) for factor in (1.0, 1.01, 1.02)]
    steady = [slowed(before, factor) for factor in (1.0, 1.01, 0.99)]
    found = compare_runs(steady[0], real[0], more_before=steady[1:], more_after=real[1:])
    assert found["augment"].verdict == "slower"
    with pytest.raises(NotComparableError, match="2 runs before and 1 after; give 3 or more"):
        compare_runs(before, after, more_before=[before])
    other = changed(before, command=["train.py", "--batch", "64"])
    with pytest.raises(NotComparableError, match="batch: 32 before, 64 after"):
        compare_runs(before, after, more_before=[before, other], more_after=[after, after])
    done = tfa_perf(
        *runs, "--more-before", *[runs[0]] * 2, "--more-after", *[runs[1]] * 2,
        "--json", "--out", tmp_path / "d.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"] == [3, 3]


CONFIG = {"data": {"bars": "sample"}, "train": {"lr": 0.1, "batch_size": 8}}


def config(**train: Any) -> dict[str, Any]:
    return {**CONFIG, "train": {**CONFIG["train"], **train}}


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({}, []),
        ({"machine": {"cpu": "Abacus"}}, ["cpu", "cores", "memory", "torch threads"]),
        ({"versions": {"tfa-perf": "9", "python": "3.9"}}, ["python", "torch", "numpy"]),
        ({"command": ["elsewhere/train.py", "--batch", "32"]}, []),
        ({"command": ["train.py", "--batch=32"]}, []),
        ({"command": ["-m", "train", "--batch", "32"]}, []),
        ({"command": ["train.py", "--batch", "-1"]}, ["batch"]),
        ({"command": ["train.py", "--batch", "32", "x.csv"]}, ["argument 1"]),
        ({"config": CONFIG}, ["program"]),
    ],
)
def test_what_differs_is_named(
    fields: dict[str, Any], keys: list[str], runs: tuple[Path, Path]
) -> None:
    run = read_run(runs[0])
    assert [m.key for m in mismatches(run, changed(run, **fields))] == keys


def test_a_gpu_is_no_cpu(runs: tuple[Path, Path]) -> None:
    run = read_run(runs[0])
    (found,) = mismatches(run, changed(run, machine={**run.machine, "gpu": "H200"}))
    assert str(found) == "gpu: none before, H200 after"


def test_configs_are_compared_key_by_key(runs: tuple[Path, Path]) -> None:
    run = read_run(runs[0])
    before = changed(run, config=config(), command=["-m", "tfa_perf", "train", "--steps", "5"])
    after = changed(before, config=config(lr=0.2, batch_size=9), command=["-m", "tfa_perf"])
    assert [m.key for m in mismatches(before, after)] == ["train.lr", "train.batch_size"]
    with pytest.raises(NotComparableError, match=r"train\.lr: 0\.1 before, 0\.2 after"):
        compare_runs(before, after, changed=["train.batch_size", "train.l"])
    for names in (["train"], ["train.lr", "train.batch_size"]):
        assert len(compare_runs(before, after, changed=names).mismatches) == 2


def test_runs_without_measured_steps_are_refused_even_by_force(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('no steps')")
    run_profiled([str(script)], tmp_path / "o", sampler="none")
    for pair in ((runs[0], tmp_path / "o"), (tmp_path / "o", runs[0])):
        done = tfa_perf(*pair, "--force")
        assert done.returncode == 2
        assert "has no measured steps" in done.stderr


def test_difference_page_in_the_browser(
    browser: Any, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    done = tfa_perf(*runs, "--out", tmp_path / "d.html")
    assert done.returncode == 0, done.stderr
    browser.open(tmp_path / "d.html", 1400)
    (after,) = (w for text, w in browser.boxes().items() if text.startswith("augment (+"))
    colour = (
        "getComputedStyle([...document.querySelectorAll('#flame .slice')].find(s => "
        "s.textContent.startsWith('augment')).querySelector('path')).fill.match(/\\d+/g).map(Number)"
    )
    red, green, blue = browser.run(colour)
    assert red > max(green, blue)
    browser.click("augment")
    browser.wait("$('info').textContent.includes('ms/step before')")
    browser.run("$('root').value = 1; $('root').onchange()")
    browser.wait("document.querySelector('#flame').textContent.includes('before (')")
    (before,) = (w for text, w in browser.boxes().items() if text.startswith("augment (+"))
    # 4 of 10 ms slept before, 12 of 18 after.
    assert before < after

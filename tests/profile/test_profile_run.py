from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tfa_perf.profile.run_file import RunFile, read_run
from tfa_perf.profile.sampler import ProfileResult, run_profiled
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import OUTSIDE_STEPS, phase_shares

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PHASES = {
    "data_wait", "h2d", "zero_grad", "forward", "backward", "clip", "optimizer", "loss_read",
    "logging", "checkpoint", "other",
}  # fmt: skip


# What the script sleeps in each phase, in ms per step: a floor of its time on any machine.
SLEEPS = {"forward": 12, "backward": 10, "data_wait": 8, "other": 6}


class Stock(NamedTuple):
    """The stock script run under the command, and what it prints without it."""

    done: subprocess.CompletedProcess[str]
    out: Path
    plain: str

    @property
    def run(self) -> RunFile:
        return read_run(self.out)


@pytest.fixture(scope="module")
def stocks(
    tmp_path_factory: pytest.TempPathFactory,
    stock_script: str,
    two_at_a_time: Callable[..., dict[str, Any]],
) -> dict[str, Stock]:
    """The stock script under each sampler that gives stacks."""
    folder = tmp_path_factory.mktemp("stock")
    command = ["train.py", "model.pt"]

    def run(sampler: str) -> subprocess.CompletedProcess[str]:
        profile = ["-m", "tfa_perf.profile", "--out", "out", "--sampler", sampler, "--rate", "250"]
        (folder / sampler).mkdir()
        (folder / sampler / "train.py").write_text(stock_script)
        return subprocess.run(
            [sys.executable, *([*profile, "--"] if sampler != "plain" else []), *command],
            cwd=folder / sampler, capture_output=True, text=True,
        )  # fmt: skip

    done = two_at_a_time(run, ("pyspy", "inprocess", "plain"))
    plain = done.pop("plain")
    assert plain.returncode == 0, plain.stderr
    return {name: Stock(ran, folder / name / "out", plain.stdout) for name, ran in done.items()}


@pytest.fixture(params=["pyspy", "inprocess"])
def stock(request: pytest.FixtureRequest, stocks: dict[str, Stock]) -> Stock:
    found = stocks[request.param]
    assert found.done.returncode == 0, found.done.stderr
    return found


def test_stock_script_unmodified(stock: Stock) -> None:
    assert stock.done.stdout == stock.plain
    assert len(stock.plain.splitlines()) == 30
    run = stock.run
    times = run.times
    assert times is not None
    assert (times.steps, times.warmup_steps, times.measured_steps) == (30, 5, 25)
    assert set(times.whole.phases) == PHASES
    assert sum(times.whole.phases.values()) == times.whole.wall_s
    assert times.measured.calls["forward"] == 2 * 25
    assert times.measured.calls["optimizer"] == times.measured.calls["h2d"] == 25
    stacks = run.samples.unpacked()
    shares = phase_shares(stacks)
    for row in times.rows(shares):
        assert row.ms >= SLEEPS.get(row.phase, 0)
        assert row.stack_share == shares.get(row.phase, 0)
        assert (row.stack_share > 0.03) >= (row.phase in SLEEPS), shares
    main = [s for s in stacks if s.thread == MAIN]
    assert any(s.frames[0] == OUTSIDE_STEPS for s in main)
    forward = [s.frames for s in main if s.frames[0] == "forward"]
    assert any(
        (f[1].startswith("main (train.py:") and f[-1].startswith("Net.forward (train.py:"))
        or f[-1].startswith("forward (train.py:")
        for f in forward
    ), forward
    shown = {frame for stack in stacks for frame in stack.frames}
    assert not any("tfa_perf/profile" in f or "runpy" in f for f in shown), shown


def test_command_writes_everything_and_says_so(
    stock: Stock, request: pytest.FixtureRequest
) -> None:
    assert {p.name for p in stock.out.iterdir()} == {
        "flame.html",
        "flame.svg",
        "run.json",
        "profile.speedscope.json",
        "stacks.collapsed",
    }
    sampler = stock.run.sampler.name
    assert sampler == request.node.callspec.params["stock"]
    for text in ("forward", "25 measured", "first 5 steps", f"stacks: {sampler}", "flame.html"):
        assert text in stock.done.stderr
    data = json.loads((stock.out / "run.json").read_text())
    assert data["format"] == 1
    assert {row["phase"] for row in data["rows"]} >= {"forward", "other"}
    page = (stock.out / "flame.html").read_text()
    assert "Net.forward" in page or "forward (train.py" in page


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('bye')", 1),
        ("raise ValueError('mine')", 1),
        ("raise KeyboardInterrupt", 130),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("import os; os._exit(7)", 7),
        ("this is no python", 1),
    ],
)
def test_exit_codes_and_errors_are_the_program_s_own(
    body: str, code: int, script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script(body)
    plain = subprocess.run([sys.executable, str(path)], capture_output=True)
    with (tmp_path / "err").open("wb") as err:
        result = run_profiled([str(path)], tmp_path / "out", sampler="none", stderr=err)
    assert result.exit_code == code
    assert (plain.returncode if plain.returncode >= 0 else 128 - plain.returncode) == code
    assert (tmp_path / "err").read_bytes() == plain.stderr
    assert (result.times is None) == (code in (143, 7))


@pytest.mark.parametrize("name", ["nosuch", "json.nosuch", "wsgiref", "broken", "broken.x"])
def test_a_module_that_cannot_be_found_is_told_as_python_tells_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("import nosuch_dependency")
    plain = subprocess.run([sys.executable, "-m", name], cwd=tmp_path, capture_output=True)
    with (tmp_path / "err").open("wb") as err:
        result = run_profiled(
            ["-m", name], tmp_path / "out", sampler="none", cwd=tmp_path, stderr=err
        )
    assert result.exit_code == plain.returncode == 1
    text = (tmp_path / "err").read_text()
    # Python's own trace has lines of runpy.
    wanted = [x for x in plain.stderr.decode().splitlines() if "runpy" not in x]
    assert text.splitlines() == wanted
    assert ("Traceback" in text) == name.startswith("broken")


def test_program_sees_the_interpreter_it_expects(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "beside.py").write_text("name = 'beside'")
    path = script(
        "import sys, json, atexit, pickle, beside, __main__\n"
        "class A: pass\n"
        "if __name__ == '__main__':\n"
        "    x: 'not evaluated'\n"
        "    assert __main__.A is A and pickle.loads(pickle.dumps(A)) is A\n"
        "    assert __annotations__ == {'x': 'not evaluated'}\n"
        "    assert 'annotations' not in globals()\n"
        "    atexit.register(lambda: print('bye', A.__name__))\n"
        "    print(json.dumps([sys.argv, sys.path[0], __file__, __name__, str(__spec__)]))\n"
        "    print(sys.stdin.read(), end='')\n"
        "    heavy = ('torch', 'numba', 'rich', 'plotly', 'numpy')\n"
        "    print([m for m in heavy if m in sys.modules])\n"
    )
    for command in (["script.py", "a", "--b"], ["-m", "script", "a", "--b"]):
        outputs = []
        for prefix in ([], ["-m", "tfa_perf.profile", "--out", "out", "--sampler", "none", "--"]):
            done = subprocess.run(
                [sys.executable, *prefix, *command],
                cwd=tmp_path,
                env=environment,
                input="typed\n",
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            outputs.append(done.stdout.replace(f'"{path}"', '"script.py"'))
        if command[0] == "-m":
            outputs = [text.split("ModuleSpec")[0] + text.split("\n", 1)[1] for text in outputs]
        assert outputs[0] == outputs[1]
        assert "bye A" in outputs[0]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "nothing to run"),
        (["--"], "nothing to run"),
        (["--", "absent.py"], "absent.py"),
        (["--", "torchrun", "x.py"], "-m torch.distributed.run"),
        (["--", "/usr/bin/python3", "script.py"], "leave '/usr/bin/python3' out"),
        (["--", "-m"], "-m needs"),
        (["--steps", "3", "--", "x.py"], "--config"),
        (["--config", "c.yaml", "--", "x.py"], "not both"),
        (["--config", "nosuch"], "bundled: report, tuned"),
        (["--config", "tuned", "--set", "train.lr=0"], "--set train.lr=0"),
        (["--config", "tuned", "--bars", "nosuch.csv"], "nosuch.csv"),
        (["--rate", "0", "--", "script.py"], "--rate is 0"),
        (["--sampler", "perf", "--", "script.py"], "perf"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    args: list[str], why: str, script: Callable[[str], Path], refused: Callable[..., str]
) -> None:
    script("")
    assert why in refused(*args)


def test_the_exit_code_of_bad_usage_leaves_the_process(profile_command: Command) -> None:
    done = profile_command()
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "nothing to run" in done.stderr


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    for wrong in ({"sampler": "perf"}, {"rate": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            run_profiled(["x.py"], tmp_path / "out", **wrong)
    with pytest.raises(ValueError, match="command is empty"):
        run_profiled([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_config_runs_the_trainer_by_its_command_line() -> None:
    from tfa_perf.profile.command_line import parse

    text = "--config tuned --set train.seed=1 --set train.lr=2 --steps 5 --bars sample --device cpu"
    options, command = parse(text.split())
    assert command == [
        "-m", "tfa_perf", "train", "--config", "tuned", "--set", "train.seed=1",
        "--set", "train.lr=2", "--bars", "sample", "--steps", "5", "--device", "cpu",
    ]  # fmt: skip
    assert options.out.parent == Path("profiles")
    assert options.out.name.endswith("-tuned")


def test_torchrun_is_called_by_its_script() -> None:
    from tfa_perf.profile.command_line import parse

    options, _ = parse(["--", "-m", "torch.distributed.run", "--nproc-per-node", "2", "a/fit.py"])
    assert options.out.name.endswith("-fit")
    options, _ = parse(["--", "-m", "torch.distributed.run", "-m", "pkg.train"])
    assert options.out.name.endswith("-torchrun")


def test_result_type_is_complete(script: Callable[[str], Path], tmp_path: Path) -> None:
    result = run_profiled([str(script("pass"))], tmp_path / "out", sampler="none")
    assert isinstance(result, ProfileResult)
    assert (result.sampler, result.reason, result.stacks) == ("none", "asked for timers alone", [])
    assert [file.name for file in result.files] == ["run.json"]

import subprocess
import sys

import pytest
import torch

from tfa_perf.cli import main
from tfa_perf.json_output import json_alone

TINY = ["model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8"]
TINY_FLAGS = [part for key in [*TINY, "train.batch_size=512"] for part in ("--set", key)]


def tfa_perf(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "tfa_perf", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )


def test_train_writes_a_model_that_loads_safely(tmp_path, capsys):
    out = tmp_path / "new" / "model.pt"
    arguments = ["train", "--config", "tuned", *TINY_FLAGS, "--steps", "3", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "5,031 bars, 55 features" in printed
    assert "train loss 0." in printed
    saved = torch.load(out, weights_only=True)
    assert saved["config"]["model"]["d_model"] == 8
    assert len(saved["features"]) == len(saved["scaler"]["mean"]) == 55
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--set", "model.nhead=7"], "model.nhead: 7 does not divide d_model 96"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["train", "--set", "data.features=none.json"], "none.json"),
        (["train", "--bars", "none.csv"], "none.csv"),
        # As from an unset variable of a shell: not the bars of the config.
        (["train", "--bars", ""], "bars: the path is empty"),
        (["train", "--graph", "--device", "cpu"], "graph: a CUDA graph needs a CUDA device"),
        (["train", "--resume"], "resume: name the folder of the checkpoints too"),
        (["train", "--bars", "synthetic:100"], "no training window: 100 bars"),
        (["train", "--device", "abacus"], "device: 'abacus'"),
        (["demo", "--set", "train.lr=0"], "--set train.lr=0: train.lr: input should be greater"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_what_it_returns(tmp_path):
    done = tfa_perf("train", "--bars", "none.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "none.csv" in done.stderr


def test_without_a_compiler_the_option_that_does_without_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    done = tfa_perf("train", *TINY_FLAGS, "--device", "cpu", "--compile", "--steps", 1)
    assert done.returncode == 1
    assert "torch.compile" in done.stderr and "--no-compile" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    assert main(["train", *TINY_FLAGS, "--steps", "3", "--out", str(tmp_path / "taken")]) == 1
    printed = capsys.readouterr()
    assert "cannot be written" in printed.err
    assert "train loss" not in printed.out
    (tmp_path / "file").write_text("")
    assert main(["demo", *TINY_FLAGS, "--out", str(tmp_path / "file" / "deeper")]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("tfa-perf: failed: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("args", [["demo", "--pairs", "5"], ["train", "--steps", "x"], ["fly"], []])
def test_bad_usage_is_exit_code_2(args, capsys):
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    assert "usage: tfa-perf" in capsys.readouterr().err


def test_help_and_version():
    shown = tfa_perf("--help").stdout
    assert "demo" in shown and "warmup" in shown
    assert len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) <= 80
    assert tfa_perf("--version").stdout == "tfa-perf 0.1.0\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_options_of_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for option in ("csv-log", "gpu-trace", "more-before", "quick"):
        assert option in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_without_the_source_bench_says_where_the_benchmarks_are(tmp_path, capsys):
    assert main(["bench", "--source", str(tmp_path)]) == 2
    assert "source distribution" in capsys.readouterr().err


def test_json_has_stdout_to_itself(capfd):
    with json_alone(True) as document:
        print("for humans", flush=True)
        subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
        document.write("{}")
    printed = capfd.readouterr()
    assert printed.out == "{}\n"
    assert "for humans" in printed.err and "of a child" in printed.err
    with json_alone(True):
        print("why there is none")
    assert capfd.readouterr() == ("", "why there is none\n")

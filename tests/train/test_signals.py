"""Ctrl-C and SIGTERM while a model trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tfa_perf.cli import main
from tfa_perf.interrupts import Interrupted
from tfa_perf.train.checkpoint import read_checkpoint
from tfa_perf.train.signals import Signals

TINY = [
    "model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8",
    "data.window=8", "train.batch_size=100", "train.epochs=100000",
    "train.schedule=constant",
    "train.checkpoint_every=5",
]  # fmt: skip


def arguments(folder):
    keys = [part for key in TINY for part in ("--set", key)]
    where = ["--bars", "synthetic:3000", "--checkpoints", str(folder)]
    return ["train", "--device", "cpu", *keys, *where]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(tmp_path, number, capsys):
    last = tmp_path / "last.pt"
    process = subprocess.Popen(
        [sys.executable, "-m", "tfa_perf", *arguments(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not last.exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    done = read_checkpoint(last)["trainer"]["done"]
    where = f"interrupted after step {done}; {last} is where --resume goes on"
    assert errors == f"tfa-perf: {where}\n"
    assert main([*arguments(tmp_path), "--resume", "--steps", str(done + 1)]) == 0
    assert f"resumed after step {done}\n" in capsys.readouterr().out


def test_a_second_signal_and_a_long_step_are_not_waited_for():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)) == before
    with pytest.raises(Interrupted) as caught, Signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.number == signal.SIGINT
    with pytest.raises(Interrupted) as caught, Signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert caught.value.number == signal.SIGTERM
    # Python's own handler; a shell's background job has none.
    original = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Signals(heed=False), pytest.raises(KeyboardInterrupt) as plain:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    finally:
        signal.signal(signal.SIGINT, original)
    assert not isinstance(plain.value, Interrupted)

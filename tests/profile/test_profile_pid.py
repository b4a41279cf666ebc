"""``--pid``: the stacks of a process that is already running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

BUSY = """
import threading, time
from tfa_perf.profile import phase

def feed():
    while True:
        sum(range(1000))

def augment():
    with phase("augment"):
        time.sleep(0.02)

threading.Thread(target=feed, daemon=True, name="feeder").start()
print("up", flush=True)
end = time.time() + 60
while time.time() < end:
    augment()
    time.sleep(0.02)
"""


@pytest.fixture
def busy(script: Callable[[str], Path], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, str(script(BUSY))], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_stacks_of_a_running_process(
    busy: subprocess.Popen, tmp_path: Path, profile_command: Command
) -> None:
    done = profile_command("--pid", str(busy.pid), "--seconds", "1.5", "--rate", "100")
    assert done.returncode == 0, done.stderr
    assert busy.poll() is None
    assert "runs without hooks: stacks alone" in done.stderr
    assert "the process goes on" in done.stderr and "exit code" not in done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["times"] is None
    assert run["command"][0].endswith("script.py")
    roots = {line.split(";")[0] for line in (tmp_path / "out" / "stacks.collapsed").open()}
    assert roots == {"augment", "thread: main", "thread: feeder"}
    assert "augment (script.py" in (tmp_path / "out" / "flame.html").read_text()


def wait_for_child(pid: int) -> None:
    """Wait until a process has started another, as the profiler starts py-spy."""
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{pid}/task/{pid}/children").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_until_ctrl_c_or_the_process_ends(
    busy: subprocess.Popen, tmp_path: Path, environment: dict[str, str]
) -> None:
    for number, end in enumerate(("interrupt", "exit")):
        profiler = subprocess.Popen(
            [sys.executable, "-m", "tfa_perf.profile", f"--out=o{number}", f"--pid={busy.pid}"],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for_child(profiler.pid)
        time.sleep(1)
        if end == "interrupt":
            os.killpg(profiler.pid, signal.SIGINT)
        else:
            busy.kill()
        _, err = profiler.communicate(timeout=60)
        assert profiler.returncode == 0, err
        assert (tmp_path / f"o{number}" / "stacks.collapsed").read_text(), err


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--pid", "4194999"], "no such process"),
        (["--pid", "0"], "--pid is 0"),
        (["--pid", "1", "--", "x.py"], "not both"),
        (["--pid", "1", "--sampler", "none"], "py-spy alone"),
        (["--pid", "1", "--seconds", "-1"], "--seconds is -1"),
        (["--seconds", "1", "--", "script.py"], "belongs to --pid"),
    ],
)
def test_bad_usage_is_one_line(
    args: list[str], why: str, script: Callable[[str], Path], refused: Callable[..., str]
) -> None:
    script("")
    assert why in refused(*args)


def test_a_process_that_is_not_python(tmp_path: Path, profile_command: Command) -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        done = profile_command("--pid", str(process.pid))
    finally:
        process.kill()
        process.wait()
    assert done.returncode == 2
    assert "does not look like Python" in done.stderr
    assert not (tmp_path / "out").exists()

"""What a program started ends with it, where a signal through the profiler ends the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tfa_perf.profile.process_tree import descendants_of, end_processes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs to see the children of a process"
)

# A fork server's workers are not the program's children: they outlive it.
SERVED = """
import multiprocessing, sys, time

def work(path):
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    worker = context.Process(target=work, args=("",))
    worker.start()
    with open(sys.argv[1], "w") as file:
        file.write(str(worker.pid))
    worker.join()
"""


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_hears_no_terminate_is_killed() -> None:
    shell = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60 & sleep 61; true"])
    wait_for(lambda: len(descendants_of(shell.pid)) == 2)
    found = descendants_of(shell.pid)
    shell.kill()
    shell.wait()
    assert all(map(runs, found))
    end_processes(found)
    assert not any(map(runs, found))


def test_another_process_under_the_same_id_is_left_alone() -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        end_processes({other.pid: "12345"}, grace_s=0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_fork_server_s_workers_end_with_the_program(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    told = tmp_path / "worker"
    command = [sys.executable, "-m", "tfa_perf.profile", "--sampler", "none"]
    profile = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--", str(script(SERVED)), str(told)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: told.exists() and told.read_text())
        worker = int(told.read_text())
        started = descendants_of(profile.pid)
        assert worker in started
        profile.terminate()
        assert profile.wait(timeout=20) == 128 + signal.SIGTERM
        assert not any(map(runs, started))
    finally:
        for pid in descendants_of(profile.pid):
            os.kill(pid, signal.SIGKILL)
        profile.kill()
        profile.wait()

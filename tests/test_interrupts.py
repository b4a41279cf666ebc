"""Ctrl-C and SIGTERM end every command, with its exit code and without a process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfa_perf.interrupts import Interrupted, interruptible

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_raises_and_handlers_come_back(number):
    before = [signal.signal(each, signal.SIG_DFL) for each in NUMBERS]
    wakeup = signal.set_wakeup_fd(-1)
    try:
        with pytest.raises(Interrupted) as caught, interruptible() as received, interruptible():
            os.kill(os.getpid(), number)
            time.sleep(60)
        assert caught.value.number == number
        assert received == [number]
        assert [signal.getsignal(each) for each in NUMBERS] == [signal.SIG_DFL] * 2
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for each, handler in zip(NUMBERS, before, strict=True):
            signal.signal(each, handler)
        signal.set_wakeup_fd(wakeup)


FORKED = """
import os, signal, sys, time
from tfa_perf.interrupts import LIMIT_S, interruptible
with interruptible():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    # Longer than a signal of our own would leave us.
    time.sleep(LIMIT_S + 0.5)
print(status == signal.SIGTERM)
"""


def test_a_signal_of_a_forked_process_is_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


NATIVE = """
import hashlib
from tfa_perf.interrupts import interruptible
with interruptible():
    print(flush=True)
    # Minutes without an instruction of Python, as in a kernel.
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**30)
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_native_code_that_goes_on_is_cut_off(number):
    process = subprocess.Popen(
        [sys.executable, "-c", NATIVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "tfa-perf: interrupted\n")


def in_session(leader):
    """Command lines of the processes that ``leader`` has started, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(session) == leader != int(entry.name) and state != "Z":
                found[int(entry.name)] = command
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("command", "child"),
    [
        (["-m", "tfa_perf", "claims", "--quick", "--device", "cpu", "--only", "memory"],
         "tfa_perf.claims.fresh"),
        (["-m", "pytest", str(ROOT / "benchmarks/test_memory.py"), "--size", "small",
          "-p", "no:cacheprovider"], "benchmarks.memory_cases"),
        (["-m", "tfa_perf.profile", "--", "script.py"],
         "tfa_perf.profile._target"),
    ],
)  # fmt: skip
def test_a_command_ends_with_the_processes_that_it_has_started(tmp_path, command, child, number):
    (tmp_path / "script.py").write_text("import time\nwhile True: time.sleep(0.01)")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while process.poll() is None and child not in " ".join(in_session(process.pid).values()):
        time.sleep(0.05)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, printed
    # One that had only just started ends when it finds its parent gone.
    for _ in range(100):
        left = in_session(process.pid)
        if left == {}:
            break
        time.sleep(0.1)
    assert left == {}

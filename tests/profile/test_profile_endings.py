"""Programs under the profiler that fork, are interrupted, or are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tfa_perf.profile.sampler import run_profiled

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_forking_and_spawning_program_ends(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script(
        "import multiprocessing, os, subprocess, sys\n"
        "def work(n):\n"
        "    return n * n\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            print(pool.map(work, [1, 2, 3]), flush=True)\n"
        "    if os.fork() == 0:\n"
        "        sys.exit(0)\n"
        "    os.wait()\n"
        "    subprocess.Popen(['sleep', '60'])\n"
        "    print('end')\n"
    )
    started = time.monotonic()
    with (tmp_path / "text").open("w") as out:
        result = run_profiled([str(path)], tmp_path / "out", env=environment, stdout=out)
    assert time.monotonic() - started < 55  # it does not wait for the sleeping grandchild
    assert (tmp_path / "text").read_text().splitlines() == ["[1, 4, 9]"] * 2 + ["end"]
    assert result.exit_code == 0
    assert result.times is not None
    assert result.times.steps == 0
    assert result.sampler == "pyspy"
    assert result.stacks


def test_forked_child_that_ends_last_writes_nothing(
    script: Callable[[str], Path], profile_command: Command
) -> None:
    path = script(
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    time.sleep(1.0)\n"
        "    print('child')\n"
        "    sys.exit(0)\n"
        "print('parent', flush=True)\n"
    )
    done = profile_command("--sampler", "none", "--", str(path))
    assert done.stdout == "parent\nchild\n"
    assert "cannot write" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sampler", ["pyspy", "inprocess"])
def test_interrupt_reaches_the_program_and_results_are_written(
    sampler: str, script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script(
        "import time\n"
        "from tfa_perf.profile import phase\n"
        "print('up', flush=True)\n"
        "try:\n"
        "    with phase('long'):\n"
        "        time.sleep(60)\n"
        "finally:\n"
        "    print('cleaned', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tfa_perf.profile", "--out=o", f"--sampler={sampler}", "--rate=100",
         "--", path],
        cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == "cleaned\n"
    assert "KeyboardInterrupt" in err
    assert "_target.py" not in err
    data = json.loads((tmp_path / "o" / "run.json").read_text())
    assert {row["phase"] for row in data["rows"]} == {"long", "logging", "other"}
    assert any(row["stack_share"] > 0.1 for row in data["rows"] if row["phase"] == "long")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_interrupts_while_the_program_starts_up_are_not_lost(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script("import time\nwhile True: time.sleep(0.01)")
    command = [sys.executable, "-m", "tfa_perf.profile", "--sampler=none"]
    for moment in range(6):
        process = subprocess.Popen(
            [*command, f"--out={moment}", "--", path], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not children.read_text():
            time.sleep(0.001)
        time.sleep(0.005 * moment)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130, printed


def test_killed_program_still_gives_its_stacks(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script("import time, os\ntime.sleep(1)\nos.kill(os.getpid(), 9)")
    result = run_profiled([str(path)], tmp_path / "out", rate=100, env=environment)
    assert result.exit_code == 137
    assert result.times is None
    assert sum(s.weight for s in result.stacks) > 0.2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["times"] is None

"""py-spy on a program alone, then on all its processes: the real thing on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tfa_perf.profile.sampler import run_profiled
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.spies import has_python_child

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs to see the children of a process"
)

SPIN = "import time\nend = time.monotonic() + {s}\nwhile time.monotonic() < end: sum(range(1000))"
PARTS = """
import subprocess, sys, time
def before(s):
    end = time.monotonic() + s
    while time.monotonic() < end: sum(range(1000))
def during(s):
    subprocess.run([sys.executable, "-c", {spin!r}], check=True)
def after(s):
    end = time.monotonic() + s
    while time.monotonic() < end: sum(range(1000))
before(1.0)
during(2.0)
after(1.0)
"""


@pytest.mark.parametrize(
    ("child", "found"),
    [
        (f"{sys.executable} -c 'import time; time.sleep(30)'", True),
        ("sleep 30", False),
        (f"sh -c \"{sys.executable} -c 'import time; time.sleep(30)'; true\"", True),
    ],
)
def test_only_python_children_count(child: str, found: bool) -> None:
    # A parent of its own: this one may have children that another test's libraries keep.
    parent = subprocess.Popen(
        ["sh", "-c", f"read go; {child} & wait; read end"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdin is not None
    try:
        assert has_python_child(parent.pid) is False
        parent.stdin.write(b"go\n")
        parent.stdin.flush()
        deadline = time.monotonic() + (10 if found else 1)
        while has_python_child(parent.pid) is not found and time.monotonic() < deadline:
            time.sleep(0.05)
        # The shell has execed by now, and a fork of the parent is no longer one.
        time.sleep(0.5)
        assert has_python_child(parent.pid) is found
    finally:
        os.killpg(parent.pid, 9)
        parent.stdin.close()
        parent.wait()


def test_a_process_that_has_ended_has_no_children() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert has_python_child(process.pid) is False


def test_stacks_go_on_when_the_program_starts_a_process(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script(PARTS.format(spin=SPIN.format(s=2.0)))
    result = run_profiled([str(path)], tmp_path / "out", sampler="pyspy", env=environment)
    assert (result.exit_code, result.sampler) == (0, "pyspy")
    held = {part: 0.0 for part in ("before", "during", "after")}
    for stack in result.stacks:
        for part in held:
            held[part] += stack.weight * any(
                stack.thread == MAIN and frame.startswith(f"{part} (") for frame in stack.frames
            )
    # Each is there by more than one sampler's share alone, and none twice.
    assert 0.3 < held["before"] < 2
    assert held["during"] > 0.3
    assert 0.3 < held["after"] < 2
    assert any(s.thread.startswith("process ") for s in result.stacks)

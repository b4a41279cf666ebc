from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def bare_interpreter(folder: Path, environment: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A Python with our packages but no py-spy beside it or on PATH."""
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    path = os.pathsep.join(p for p in sys.path if p and Path(p).exists())
    return str(python), {**environment, "PATH": str(folder), "PYTHONPATH": path}


def profile(
    python: str, env: dict[str, str], script: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Profile a script with that interpreter, beside the script, into the folder ``o``."""
    return subprocess.run(
        [python, "-m", "tfa_perf.profile", "--out", "o", *options, "--", str(script)],
        cwd=script.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("fake", "asked", "used", "why"),
    [
        (None, "auto", "inprocess", "not installed"),
        (None, "pyspy", "none", "not installed"),
        ("echo 'Error: Permission Denied' >&2; exit 1", "auto", "inprocess", "Permission Denied"),
        ("exit 1", "auto", "inprocess", "no message"),
    ],
)
def test_falls_back_and_says_why(
    fake: str | None,
    asked: str,
    used: str,
    why: str,
    script: Callable[[str], Path],
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    python, env = bare_interpreter(tmp_path / "bin", environment)
    if fake is not None:
        program = tmp_path / "bin" / "py-spy"
        program.write_text(f"#!/bin/sh\n{fake}\n")
        program.chmod(0o755)
    path = script("import time; time.sleep(0.3); print('done'); raise SystemExit(4)")
    done = profile(python, env, path, "--sampler", asked)
    assert done.returncode == 4, done.stderr
    assert done.stdout == "done\n"
    lines = [line for line in done.stderr.splitlines() if line.startswith("stacks: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"stacks: {used}, ")
    assert why in lines[0]
    assert (tmp_path / "o" / "flame.html").exists()
    assert (tmp_path / "o" / "stacks.collapsed").exists() == (used != "none")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give up root"
)
def test_real_denial_of_ptrace(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    real = shutil.which("py-spy", path=os.path.dirname(sys.executable))
    python, env = bare_interpreter(tmp_path / "bin", environment)
    program = tmp_path / "bin" / "py-spy"
    shutil.copy(str(real), tmp_path / "bin" / "real")
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"fd = os.open({str(tmp_path / 'bin' / 'real')!r}, os.O_RDONLY)\n"
        "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
        "os.execve(fd, ['py-spy', *sys.argv[1:]], os.environ)\n"
    )
    program.chmod(0o755)
    path = script("import time; time.sleep(0.3)")
    done = profile(python, env, path)
    assert done.returncode == 0, done.stderr
    assert "stacks: inprocess, py-spy could not attach" in done.stderr, done.stderr
    assert "ermission" in done.stderr

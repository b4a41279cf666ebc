"""A change in any kernel source must not leave compiled code of the old one in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfa_kernels

pytestmark = pytest.mark.compiled

CALL = """
import numpy as np
from tfa_kernels import gather_windows
X = np.array([[1.0], [2.0], [3.0]])
print(gather_windows(X, [1, 2], 1, num_threads=1).ravel())
"""


def run(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "nb")}
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_changed_callee_is_compiled_anew(tmp_path: Path) -> None:
    package = tmp_path / "tfa_kernels"
    source = Path(tfa_kernels.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert run(tmp_path) == "[2. 3.]\n"
    callee = package / "_memory_nb.py"
    text = callee.read_text()
    assert text.count("*values[2:4]") == 1
    row_before = "values[2], builder.sub(values[3], values[3].type(8))"
    callee.write_text(text.replace("*values[2:4]", row_before))
    assert run(tmp_path) == "[1. 2.]\n"

"""A change in any kernel source must not leave compiled code of the old one in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import tfa_kernels

CALL = """
import numpy as np
from tfa_kernels import build_features
spec = {"schema_version": "2.0", "features": [{"name": "a", "op": "SMA", "window": 2}]}
close = np.array([1.0, 3.0, 5.0])
print(build_features({"close": close}, spec, num_threads=1).values.ravel()[1:])
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
    assert run(tmp_path) == "[2. 4.]\n"
    callee = package / "_sources_nb.py"
    text = callee.read_text()
    assert text.count("out[r] = column[r]") == 1
    callee.write_text(text.replace("out[r] = column[r]", "out[r] = column[r] + 10"))
    assert run(tmp_path) == "[12. 14.]\n"

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Names of the files in either wheel, built as `pip wheel` builds them, and their folder."""
    folder = tmp_path_factory.mktemp("wheels")
    names: dict = {"folder": folder}
    for project, package in ((ROOT / "kernels", "tfa_kernels"), (ROOT, "tfa_perf")):
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, project],
            check=True,
            capture_output=True,
            timeout=120,
        )
        (wheel,) = folder.glob(f"{package}-*.whl")
        names[package] = zipfile.ZipFile(wheel).namelist()
    return names


@pytest.mark.parametrize("package", ["tfa_kernels", "tfa_perf"])
def test_each_wheel_holds_its_own_package_alone(wheels, package):
    top = {name.split("/")[0] for name in wheels[package]}
    assert top == {package, f"{package}-0.1.0.dist-info"}
    assert f"{package}/py.typed" in wheels[package]


def test_configs_and_sample_travel_in_the_wheel(wheels):
    assert {
        "tfa_perf/_configs/report.yaml",
        "tfa_perf/_configs/tuned.yaml",
        "tfa_perf/_configs/features/tfa55.json",
        "tfa_perf-0.1.0.dist-info/licenses/LICENSE",
        "tfa_perf-0.1.0.dist-info/licenses/tfa_perf/data/samples/LICENSE-arch.md",
    } <= set(wheels["tfa_perf"])
    assert any(n.startswith("tfa_perf/data/samples/") and "sp500" in n for n in wheels["tfa_perf"])


def test_what_starts_the_profiler_in_new_interpreters_travels_in_the_wheel(wheels):
    # It is found by its folder, not by an import: no tool sees that it is needed.
    assert "tfa_perf/profile/_inject/sitecustomize.py" in wheels["tfa_perf"]


def test_no_package_is_named_kernels(wheels):
    # The Hugging Face package of that name is imported by transformers.
    assert not (ROOT / "kernels" / "__init__.py").exists()


TOGETHER = """
import numpy as np
import {first}, {second}
import kernels, transformers, tfa_kernels, tfa_perf
assert "site-packages" in kernels.__file__, kernels.__file__
X = np.arange(40.0).reshape(10, 4)
assert (tfa_kernels.gather_windows(X, [0, 3], 2)[1] == X[3:5]).all()
"""


@pytest.mark.nightly
@pytest.mark.parametrize("order", [("kernels", "tfa_perf"), ("tfa_perf", "kernels")])
def test_beside_kernels_of_hugging_face(order, tmp_path):
    pytest.importorskip("kernels.layer", reason="needs Hugging Face's kernels")
    code = TOGETHER.format(first=order[0], second=order[1])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=300)


def test_kernels_import_without_the_rest():
    code = (
        "import sys, tfa_kernels; "
        "print([m for m in ('torch', 'polars', 'pydantic', 'tfa_perf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_needs_no_torch():
    code = (
        "import sys; sys.argv = ['tfa-perf', '--help']\n"
        "from tfa_perf.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


# Without site: neither the editable install nor a user's folder is on the path.
INSTALLED = """
import sys
sys.path[:0] = sys.argv[1:3]
import numpy as np, tfa_kernels, tfa_perf
from tfa_perf.config import load_config
from tfa_perf.data import load_bars
print(tfa_kernels.__file__, tfa_perf.__file__)
assert len(load_bars("sample")) > 5000
spec = load_config("report").data.features
bars = load_bars("synthetic:300")
assert tfa_kernels.build_features(bars, spec, num_threads=1).values.shape == (300, 55)
"""


@pytest.mark.nightly
def test_wheels_alone_work_for_two_cold_processes_at_once(wheels, tmp_path):
    for wheel in wheels["folder"].glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    libraries = str(Path(numpy.__file__).parents[1])
    command = [sys.executable, "-S", "-c", INSTALLED, str(tmp_path / "site"), libraries]
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "NUMBA_CACHE_DIR")
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) for _ in range(2)]
    for process in both:
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed
        assert printed.count(str(tmp_path / "site")) == 2, printed
    assert list((tmp_path / "site").rglob("*.nbi"))

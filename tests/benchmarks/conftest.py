"""A folder of small benchmarks with the real conftest, whose work takes what a planted clock says.

The clock goes in by pytest-benchmark's own ``--benchmark-timer``, so that every figure is known
beforehand while saving, choosing a partner, comparing and the gate are the real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

CLOCK = """
now_s = 0.0

def now():
    return now_s

def advance(seconds):
    global now_s
    now_s += seconds
"""

PLANTED = """
import json
import os

import clock
import pytest

COST = json.loads(os.environ["COST"])


def side(name):
    def work():
        clock.advance(COST[name])
        return COST.get("output of " + name, 42)

    return work


@pytest.fixture(scope="module")
def sides():
    both = {name: side(name) for name in ("before", "after")}
    assert both["before"]() == both["after"]()
    return both


def test_planted(measure, sides, impl):
    measure(sides, impl, rounds=6, samples=10)
"""

STEADY = """
import os

import clock


def test_steady(versus):
    versus("steady", lambda: clock.advance(3.0), lambda: clock.advance(1.5), samples=3)
    assert "steady" not in os.environ["COST"]
"""


@dataclass
class Ended:
    status: int
    text: str
    saved: dict[str, Any] | None


@dataclass
class Suite:
    folder: Path

    def run(self, *options: str, **cost: float) -> Ended:
        """``pytest benchmarks *options`` in a process of its own."""
        known = set(self.folder.glob(".benchmarks/*/*.json"))
        environment = {
            # A worker of xdist tells its children that they are workers too.
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")},
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT), str(ROOT / "kernels")]),
            "COST": json.dumps({"before": 2.0, "after": 1.0, **cost}),
            "COLUMNS": "200",
        }
        targets = [] if any(o.startswith("benchmarks") for o in options) else ["benchmarks"]
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *targets, "-p", "no:cacheprovider",
             "-p", "no:hypothesispytest",
             "--import-mode=importlib", "--benchmark-timer=clock.now", *options],
            cwd=self.folder, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        new = set(self.folder.glob(".benchmarks/*/*.json")) - known
        saved = json.loads(new.pop().read_text()) if new else None
        return Ended(ended.returncode, ended.stdout, saved)

    @property
    def runs(self) -> list[Path]:
        return sorted(self.folder.glob(".benchmarks/*/*.json"))

    def of_another_machine(self) -> None:
        """Make the one run in the storage the reference that a fresh clone has."""
        (here,) = self.runs
        run = json.loads(here.read_text())
        run["tfa_perf"]["fingerprint"]["cpu"] = "another"
        here.unlink()
        (self.folder / ".benchmarks" / "0000_reference_cpu.json").write_text(json.dumps(run))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return _suite(tmp_path)


@pytest.fixture(scope="session")
def _measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Ended]:
    made = _suite(tmp_path_factory.mktemp("measured"))
    return made, made.run()


@pytest.fixture
def first_run(_measured: tuple[Suite, Ended]) -> Ended:
    """What the first run of the suite printed and saved."""
    return _measured[1]


@pytest.fixture
def measured(_measured: tuple[Suite, Ended], tmp_path: Path) -> Suite:
    """A suite with one complete run in its storage."""
    shutil.copytree(_measured[0].folder, tmp_path, dirs_exist_ok=True)
    return Suite(tmp_path)


def _suite(folder: Path) -> Suite:
    benchmarks = folder / "benchmarks"
    benchmarks.mkdir()
    for file in (ROOT / "benchmarks").glob("*.py"):
        if not file.name.startswith("test_"):
            shutil.copy(file, benchmarks)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "clock.py").write_text(CLOCK)
    (benchmarks / "test_planted.py").write_text(PLANTED)
    (benchmarks / "test_steady.py").write_text(STEADY)
    return Suite(folder)

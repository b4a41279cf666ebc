"""The memory flame graph: real programs under the real memray."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.memory import memory_chart, run_memory
from tfa_perf.profile.memory_target import GpuMemory
from tfa_perf.profile.stacks import Stack

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HOLDING = """
import sys, threading
from tfa_perf.profile import phase

MIB = 1 << 20

def hold(mib):
    return bytearray(mib * MIB)

def beside():
    kept.append(hold(20))

kept = []
hold(300)
with phase("load"):
    kept.append(hold(80))
    with phase("augment"):
        kept.append(hold(40))
thread = threading.Thread(target=beside, name="loader")
thread.start()
thread.join()
gone = hold(200)
del gone
kept.append(hold(60))
peak = hold(250)
del peak, kept
print("out")
"""


def test_peak_by_phase_thread_and_place(
    script: Callable[[str], Path], profile_command: Any, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    done = profile_command("--memory", "--", str(script(HOLDING)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n"
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"memory.html", "memory.collapsed", "memory.json"}
    data = json.loads((out / "memory.json").read_text())
    held = data["phases_mib"]
    # bytearray() is exact; what the interpreter holds besides is in other.
    assert held["load"] == pytest.approx(80, abs=0.5)
    assert held["augment"] == pytest.approx(40, abs=0.5)
    assert held["thread: loader"] == pytest.approx(20, abs=0.5)
    assert held["other"] == pytest.approx(310, abs=15)
    assert data["peak_mib"] == pytest.approx(sum(held.values()))
    assert data["gpu_mib"] == {}
    lines = (out / "memory.collapsed").read_text().splitlines()
    assert any(re.fullmatch(r"load;<module> .*;hold \(script\.py:7\) \d+", x) for x in lines), lines
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) / (1 << 20) == pytest.approx(
        data["peak_mib"], abs=0.1
    )
    assert not any("tfa_perf/profile" in line or "runpy" in line for line in lines)
    page = (out / "memory.html").read_text()
    assert "MiB at the peak" in page
    assert "Width is memory held" in page
    assert "Width is time" not in page
    for text in ("hold (script.py:7)", "no times", "memory.html", "at the peak"):
        assert text in done.stderr
    assert "ms" not in re.sub(r"[a-z]ms|ms[a-z]", "", done.stderr)


TRAINING = """
import torch
model = torch.nn.Linear(1024, 1024)
optimizer = torch.optim.Adam(model.parameters())
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(2048, 1024)).square().mean().backward()
    optimizer.step()
raise SystemExit(3)
"""


def test_hooked_phases_hold_what_they_allocate(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("memray")
    found = run_memory([str(script(TRAINING))], tmp_path / "out", env=environment)
    assert found.exit_code == 3
    held = found.phases()
    # Two moments of a 1024 x 1024 float32 matrix; the layer's output of 2048 x 1024, and what the
    # product packs its operands into, by processor.
    assert held["optimizer"] == pytest.approx(8, abs=0.5)
    assert 8 <= held["forward"] < 16
    assert held["backward"] >= 4
    assert list(held.values()) == sorted(held.values(), reverse=True)


def test_a_killed_program_has_no_profile_but_its_exit_code(
    script: Callable[[str], Path], profile_command: Any
) -> None:
    pytest.importorskip("memray")
    path = script("import os; os._exit(7)")
    done = profile_command("--memory", "--", str(path))
    assert done.returncode == 7
    assert "no memory profile: the program ended with code 7" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_file_that_does_not_fit_leaves_the_others_and_the_exit_code(
    script: Callable[[str], Path], profile_command: Any, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    out = tmp_path / "out"
    out.mkdir()
    (out / "memory.html.partial").symlink_to("/dev/full")
    done = profile_command("--memory", "--", str(script("raise SystemExit(3)")))
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stderr.splitlines() if "cannot write" in line]
    assert lines == [
        f"tfa_perf.profile: cannot write {out / 'memory.html'}: No space left on device"
    ]
    assert {path.name for path in out.iterdir()} == {"memory.collapsed", "memory.json"}


def test_without_memray_the_error_names_the_command(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = script("print('ran')")
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "def without(name, *a): return None if name == 'memray' else found(name, *a)\n"
        "importlib.util.find_spec = without\n"
        "from tfa_perf.profile.__main__ import main\n"
        f"main(['--memory', '--out', {str(tmp_path / 'out')!r}, '--', {str(path)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'tfa-perf[memory]'" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "other", [["--gpu-trace"], ["--text"], ["--fail-if", "step_ms>1"], ["--pid", "1"]]
)
def test_memory_gives_no_times(
    other: list[str], script: Callable[[str], Path], refused: Callable[..., str]
) -> None:
    program = [] if "--pid" in other else ["--", str(script(""))]
    line = refused("--memory", *other, *program)
    assert f"it cannot go with {other[0]}; run it by itself" in line


def test_chart_adds_up_and_is_rooted_at_phases() -> None:
    stacks = [
        Stack("main", ("forward", "f (a.py:1)", "g (a.py:2)"), 6.0),
        Stack("main", ("forward", "f (a.py:1)"), 2.0),
        Stack("main", ("data_wait", "h (b.py:3)"), 4.0),
        Stack("loader", ("thread: loader", "h (b.py:3)"), 1.0),
    ]
    chart = memory_chart(stacks, "train")
    values = {name: value for name, value in zip(chart.names, chart.values, strict=True)}
    assert chart.unit == "MiB"
    assert chart.names[0] == "train (13.0 MiB at the peak)"
    tops = [name for name, parent in zip(chart.names, chart.parents, strict=True) if parent == 0]
    assert tops == [
        "data_wait 30.8 % (4.0 MiB)", "forward 61.5 % (8.0 MiB)", "thread: loader 7.7 % (1.0 MiB)",
    ]  # fmt: skip
    assert values["f (a.py:1)"] == 8_000_000
    assert chart.notes[chart.names.index("g (a.py:2)")] == "46.2 % · 6.000 MiB"
    assert memory_chart([], "nothing").values == [0]


def test_gpu_memory_is_given_to_the_phase_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = SimpleNamespace(
        now=0, peak=0, is_initialized=lambda: True,
        memory_allocated=lambda: counters.now, max_memory_allocated=lambda: counters.peak,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=counters))

    def hold(mib: int, at_most: int = 0) -> None:
        counters.now = mib << 20
        counters.peak = max(counters.peak, counters.now, at_most << 20)

    with recording(Recorder()) as recorder:
        memory = GpuMemory(recorder)
        hold(10)
        with phase("forward"):
            hold(40, at_most=70)
        with phase("backward"):
            hold(20, at_most=60)
        with phase("optimizer"):
            hold(15, at_most=90)
            with phase("inner"):
                hold(15)
        found = memory.found()
    assert found == {"other": 40, "forward": 70, "backward": 40, "optimizer": 90, "inner": 15}


@needs_cuda
def test_cuda_memory_by_phase(script: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("memray")
    text = """
import torch
from tfa_perf.profile import phase
kept = []
with phase("small"):
    kept.append(torch.zeros(16 << 20, dtype=torch.uint8, device="cuda"))
with phase("large"):
    torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")
with phase("after"):
    kept.append(torch.zeros(16 << 20, dtype=torch.uint8, device="cuda"))
"""
    found = run_memory([str(script(text))], tmp_path / "out")
    assert found.exit_code == 0
    assert found.gpu["small"] == pytest.approx(16, abs=1)
    assert found.gpu["large"] == pytest.approx(272, abs=1)
    assert found.gpu["after"] == pytest.approx(32, abs=1)

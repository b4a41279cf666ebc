"""``--gpu-trace`` on whole programs: without work of a device, and on a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tfa_perf.profile.gpu_events import read_events
from tfa_perf.profile.sampler import run_profiled

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SCRIPT = """
import torch
from tfa_perf.profile import phase
torch.manual_seed(0)
model = torch.nn.Linear(512, 512).to({device!r})
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range({steps}):
    optimizer.zero_grad()
    x = torch.randn(256, 512).to({device!r})
    with phase("augment"):
        x = x * 2
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    print(loss.item())
"""


@pytest.fixture(scope="module")
def on_the_host(
    tmp_path_factory: pytest.TempPathFactory, two_at_a_time: Callable[..., dict[int, Any]]
) -> dict[int, tuple[Any, Path]]:
    """The script on the CPU for 8 steps and for 2, with a GPU trace asked for."""
    base = tmp_path_factory.mktemp("host")

    def run(steps: int) -> tuple[Any, Path]:
        folder = base / str(steps)
        folder.mkdir()
        (folder / "script.py").write_text(SCRIPT.format(device="cpu", steps=steps))
        command = [sys.executable, "-m", "tfa_perf.profile", "--out", "out", "--sampler", "none"]
        done = subprocess.run(
            [*command, "--gpu-trace", "--", "script.py"],
            cwd=folder, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return done, folder / "out"

    return two_at_a_time(run, (8, 2))


@pytest.mark.parametrize(
    ("steps", "why"),
    [(8, "the program does not use CUDA"), (2, "the run has only 2 steps")],
)
def test_a_run_without_gpu_work_says_so_in_one_line(
    steps: int, why: str, on_the_host: dict[int, tuple[Any, Path]]
) -> None:
    done, out = on_the_host[steps]
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "GPU" in line]
    assert lines == [f"no GPU work to trace: {why}"]
    assert "device ms" not in done.stderr
    assert not (out / "trace.json.gz").exists()
    document = json.loads((out / "run.json").read_text())
    assert document["gpu_trace"] is None
    assert document["times"]["steps"] == steps


def test_bad_numbers_of_steps_are_refused(
    script: Callable[[str], Path], refused: Callable[..., str], tmp_path: Path
) -> None:
    line = refused("--gpu-trace", "-1", "--", str(script("")))
    assert "--gpu-trace is -1; give 0 to 1000 steps" in line
    with pytest.raises(ValueError, match="gpu_trace is 1001"):
        run_profiled(["x.py"], tmp_path / "out", gpu_trace=1001)


@needs_cuda
def test_cuda_steps_are_traced_and_kept_out_of_the_times(
    script: Callable[[str], Path], profile_command: Any, tmp_path: Path
) -> None:
    path = script(SCRIPT.format(device="cuda", steps=40))
    plain = profile_command("--sampler", "none", "--", str(path))
    done = profile_command("--sampler", "none", "--gpu-trace", "7", "--", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout
    assert "GPU trace of 7 more steps" in done.stderr
    assert "device ms" in done.stderr
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    assert document["times"]["steps"] == 33
    assert document["times"]["measured_steps"] == 28
    assert document["times"]["device"]["steps"] == 28
    trace = document["gpu_trace"]
    assert trace["steps"] == 7
    rows = {row["phase"]: row for row in trace["phases"]}
    copies = rows["h2d"]["copies"]["HtoD"]
    assert (copies["count"], copies["bytes"]) == (1, 256 * 512 * 4)
    assert rows["augment"]["kernels"] == 1
    assert rows["loss_read"]["copies"]["DtoH"]["count"] == 1
    for name in ("forward", "backward", "optimizer"):
        assert rows[name]["kernels"] >= 1, name
    assert "launched outside" not in rows
    assert "other threads" not in rows
    assert trace["busy_ms"] + trace["idle_ms"] == pytest.approx(trace["step_ms"], rel=0.1)
    events = read_events(tmp_path / "out" / "trace.json.gz")
    track = [e for e in events if e.get("cat") == "phase"]
    assert sum(e["name"] == "augment" for e in track) == 7
    assert sum(e["name"].startswith("step ") for e in track) == 7
    assert any(e.get("cat") == "kernel" for e in events)


@needs_cuda
def test_cuda_trace_holds_under_sync_debug_mode(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    text = SCRIPT.format(device="cuda", steps=30).replace("print(loss.item())", "pass")
    text = text.replace("torch.randn(256, 512).to('cuda')", "torch.randn(256, 512, device='cuda')")
    head, loop = text.split("for step", 1)
    text = f"{head}torch.cuda.set_sync_debug_mode('error')\nfor step{loop}"
    result = run_profiled([str(script(text))], tmp_path / "out", sampler="none", gpu_trace=5)
    assert result.exit_code == 0
    assert result.run.gpu_trace is not None
    assert result.times is not None
    assert result.times.steps == 25


@needs_cuda
def test_cuda_program_with_a_profiler_of_its_own_keeps_it(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    text = SCRIPT.format(device="cuda", steps=20)
    head, loop = text.split("for step", 1)
    text = head + "p = torch.profiler.profile(); p.start()\nfor step" + loop
    text += "p.stop(); assert any('addmm' in e.key for e in p.key_averages())\n"
    result = run_profiled([str(script(text))], tmp_path / "out", sampler="none", gpu_trace=5)
    assert result.exit_code == 0
    assert result.times is not None
    assert result.run.gpu_trace is None
    assert "runs torch.profiler itself" in result.times.gpu_trace_problem
    assert result.times.steps == 20

"""Device time per phase on a real device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.gpu import DeviceSpans
from tfa_perf.profile.overhead import PAIRS
from tfa_perf.profile.sampler import run_profiled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def matmuls(count: int, size: int = 2048) -> Callable[[], torch.Tensor]:
    a = torch.randn(size, size, device="cuda")

    def run() -> torch.Tensor:
        b = a
        for _ in range(count):
            b = torch.mm(a, b).mul_(1e-3)
        return b

    return run


def cuda_times(step: Callable[[int], None], count: int) -> DeviceTimes:
    with recording(Recorder()) as recorder:
        spans = DeviceSpans(recorder, 5)
        for number in range(count):
            step(number)
            spans.end()
            spans.begin()
        times = spans.finish(2)
    assert times is not None
    assert times.problem == ""
    return times


def test_cuda_work_is_given_to_its_phase_without_a_sync() -> None:
    light, heavy = matmuls(2), matmuls(20)
    heavy()
    torch.cuda.synchronize()

    def step(number: int) -> None:
        with phase("light"):
            light()
        with phase("heavy"):
            heavy()

    torch.cuda.set_sync_debug_mode("error")
    try:
        times = cuda_times(step, 30)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert times.steps == 28
    ratio = times.phases["heavy"] / times.phases["light"]
    assert 6 < ratio < 14
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for number in range(10):
        step(number)
    end.record()
    end.synchronize()
    mine = sum(times.ms_per_step(name) or 0 for name in times.phases)
    assert mine == pytest.approx(begin.elapsed_time(end) / 10, rel=0.25)


def test_cuda_events_stay_out_of_a_captured_graph() -> None:
    work = matmuls(3)
    work()
    graph = torch.cuda.CUDAGraph()

    def step(number: int) -> None:
        with phase("forward"):
            if number != 6:
                graph.replay() if number > 6 else work()
                return
            torch.cuda.synchronize()
            with torch.cuda.graph(graph), phase("inside"):
                work()

    times = cuda_times(step, 20)
    assert times.untimed <= 2
    assert times.phases["forward"] > 0
    assert "inside" not in times.phases


def test_cuda_side_streams_count_in_their_own_phase() -> None:
    work, side = matmuls(10), torch.cuda.Stream()
    work()

    def step(number: int) -> None:
        with torch.cuda.stream(side), phase("side"):
            work()
        with phase("main"):
            pass

    times = cuda_times(step, 20)
    assert times.untimed == 0
    assert times.phases["side"] > 20 * times.phases["main"]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_cuda_devices_are_told_apart() -> None:
    work = matmuls(3)

    def step(number: int) -> None:
        with phase("first"):
            work()
        with torch.cuda.device(1), phase("second"):
            torch.ones(1 << 20, device="cuda").mul_(2)

    times = cuda_times(step, 10)
    assert times.untimed == 0
    assert times.phases["second"] > 0


GRAPHED = """
import torch
x = torch.randn(256, 64, device="cuda")
model = torch.nn.Linear(64, 1).cuda()
optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
def step():
    optimizer.zero_grad(set_to_none=True)
    model(x).square().mean().backward()
    optimizer.step()
stream = torch.cuda.Stream()
with torch.cuda.stream(stream):
    for _ in range(3):
        step()
torch.cuda.synchronize()
optimizer.zero_grad(set_to_none=True)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    step()
for _ in range(40):
    graph.replay()
torch.cuda.synchronize()
"""


def test_cuda_replays_of_a_captured_step_are_steps(script: Any, tmp_path: Any) -> None:
    result = run_profiled([str(script(GRAPHED))], tmp_path / "out", sampler="none")
    assert result.exit_code == 0
    times = result.times
    assert times is not None
    assert times.steps == 43
    assert times.measured.calls == {"graph_replay": times.measured_steps}
    assert times.device is not None
    assert times.device.phases["graph_replay"] > 0


OWN = """
import numpy as np
from tfa_perf.config import ModelConfig
from tfa_perf.data import WindowLoader
from tfa_perf.train import WindowEncoder, make_optimizer, make_step
X = np.random.default_rng(0).standard_normal((167, 5), dtype=np.float32)
y = (X[:, 0] > 0).astype(np.float32)
loader = WindowLoader(X, y, window=8, batch_size=16, device="cuda")
shape = dict(d_model=16, nhead=2, num_layers=1, ffn_hidden=16)
model = WindowEncoder(5, ModelConfig(**shape)).cuda()
step = make_step(model, make_optimizer(model), loader, clip_norm=1.0, bf16=True, graph=True)
for epoch in range(2):
    for _ in step.epoch():
        pass
    step.mean_loss()
"""


def test_cuda_replays_of_our_captured_step_are_steps(script: Any, tmp_path: Any) -> None:
    result = run_profiled([str(script(OWN))], tmp_path / "out", sampler="none")
    assert result.exit_code == 0
    assert result.times is not None
    # Three come before the capture.
    assert result.times.steps == 23


def test_cuda_cost_of_profiling_leaves_no_holes_in_the_device_times(
    script: Any, tmp_path: Any
) -> None:
    # Each replay takes long enough for the host to be far ahead.
    long = GRAPHED.replace("256, 64", "65536, 64").replace("range(40)", "range(60_000)")
    result = run_profiled([str(script(long))], tmp_path / "out", sampler="none")
    times = result.times
    assert times is not None
    assert times.overhead is not None
    assert len(times.overhead.plain_ns) == len(times.overhead.profiled_ns) == PAIRS
    assert times.steps == 60_003
    plain = PAIRS * times.overhead.steps
    assert times.whole.calls["graph_replay"] == 60_000 - plain
    assert times.measured_steps <= 60_003 - 2 * plain
    # A block ends when the device has done it: on either side its steps take what a replay takes.
    assert times.device is not None
    replay_ms = times.device.ms_per_step("graph_replay")
    assert replay_ms is not None
    per_step_ms = sorted(ns / times.overhead.steps / 1e6 for ns in times.overhead.plain_ns)
    assert per_step_ms[PAIRS // 2] > 0.7 * replay_ms
    assert sum(times.device.ms_per_step(name) or 0 for name in times.device.phases) < (
        2 * per_step_ms[PAIRS // 2]
    )


FAILING = """
import torch
model = torch.nn.Linear(8, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    model(torch.ones(4, 8, device="cuda")).sum().backward()
    optimizer.step()
    if step == 9:
        torch.ones(4, device="cuda")[torch.tensor([99], device="cuda")]
torch.cuda.synchronize()
print("unreachable")
"""


def test_cuda_device_error_is_the_program_s_own(script: Any, tmp_path: Any) -> None:
    with (tmp_path / "err").open("w") as err:
        result = run_profiled([str(script(FAILING))], tmp_path / "out", sampler="none", stderr=err)
    text = (tmp_path / "err").read_text()
    assert result.exit_code == 1, text
    assert "device-side assert" in text
    assert "tfa_perf/profile/gpu" not in text.replace("\\\\", "/")
    assert result.times is not None
    assert result.times.steps >= 10

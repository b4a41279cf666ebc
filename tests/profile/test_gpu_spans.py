"""Device time per phase on a simulated device, whose work takes what a test says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.gpu import CAPTURES, EVERY_STEP, DeviceSpans
from tfa_perf.profile.hooks import hooked


class Device:
    """Stands for torch.cuda: streams with a clock in ms each, events that complete when told."""

    def __init__(self) -> None:
        self.stream = SimpleNamespace(device_index=0, cuda_stream=0, clock=0.0)
        self.events: list[Any] = []
        self.completed = True
        self.capturing = False
        self.broken = False
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing
                device.events.append(self)

            def record(self, stream: Any) -> None:
                if device.broken:
                    raise RuntimeError("CUDA error: unspecified launch failure\nmore")
                assert not device.capturing
                self.time, self.device, self.done = stream.clock, stream.device_index, False

            def query(self) -> bool:
                assert not device.capturing
                self.done = self.done or device.completed
                return self.done

            def elapsed_time(self, end: Any) -> float:
                assert self.device == end.device
                assert end.done
                return end.time - self.time

        self.Event = Event

    def is_initialized(self) -> bool:
        return True

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def current_stream(self) -> Any:
        return self.stream

    def work(self, ms: float) -> None:
        self.stream.clock += ms


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    simulated = Device()
    fake = SimpleNamespace(cuda=simulated)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return simulated


Steps = Callable[..., DeviceTimes | None]


@pytest.fixture
def profile() -> Steps:
    """``profile(step, count)``: device times of `count` steps, the first one before any event."""

    def run(step: Callable[[int], None], count: int, warmup: int = 1) -> DeviceTimes | None:
        with recording(Recorder()) as recorder:
            spans = DeviceSpans(recorder, 5)
            for number in range(count):
                step(number)
                spans.end()
                spans.begin()
            return spans.finish(warmup)

    return run


def test_times_are_exclusive_and_add_up_to_the_step(device: Device, profile: Steps) -> None:
    def step(number: int) -> None:
        device.work(1)
        with phase("forward"):
            device.work(2)
            with phase("augment"):
                device.work(4)
            device.work(8)
        device.work(16)
        with phase("forward"):
            device.work(32)

    times = profile(step, 11)
    assert times is not None
    assert (times.steps, times.untimed, times.problem) == (10, 0, "")
    per_step = {name: times.ms_per_step(name) for name in times.phases}
    assert per_step == pytest.approx({"other": 17, "forward": 42, "augment": 4})
    assert times.ms_per_step("backward") is None


def test_a_span_over_the_end_of_a_step_counts_on_either_side(
    device: Device, profile: Steps
) -> None:
    whole = phase("train")

    def step(number: int) -> None:
        if number == 0:
            whole.__enter__()
        device.work(3)
        with phase("forward"):
            device.work(2)

    times = profile(step, 6)
    assert times is not None
    assert times.ms_per_step("train") == pytest.approx(3)
    assert times.ms_per_step("forward") == pytest.approx(2)
    assert times.ms_per_step("other") == pytest.approx(0)


def test_warm_up_and_the_unfinished_step_are_left_out(device: Device, profile: Steps) -> None:
    def step(number: int) -> None:
        with phase("forward"):
            device.work(1000 if number < 4 else 1)

    times = profile(step, 12, warmup=4)
    assert times is not None
    assert times.steps == 8
    assert times.ms_per_step("forward") == pytest.approx(1)
    assert profile(step, 1) is None


@pytest.mark.parametrize(("compiling", "steps", "ms"), [(3, 9, 1), (9, 12, 8.5)])
def test_steps_that_compile_are_left_out_unless_most_do(
    compiling: int, steps: int, ms: float, device: Device, profile: Steps
) -> None:
    def step(number: int) -> None:
        with phase("forward"):
            device.work(1)
            if 0 < number <= compiling:
                with phase("torch_compile"):
                    device.work(10)

    times = profile(step, 13)
    assert times is not None
    assert times.steps == steps
    assert sum(times.phases.values()) / times.steps * 1e3 == pytest.approx(ms)


def test_streams_and_devices_are_told_apart(device: Device, profile: Steps) -> None:
    main = device.stream
    side = SimpleNamespace(device_index=0, cuda_stream=7, clock=1e6)
    other = SimpleNamespace(device_index=1, cuda_stream=0, clock=5e6)

    def step(number: int) -> None:
        with phase("forward"):
            device.work(1)
            device.stream = side
            with phase("copy"):
                device.work(10)
            device.stream = main
        with phase("lost"):
            device.work(100)
            device.stream = other
        with phase("second"):
            device.work(1000)
        device.stream = main

    times = profile(step, 4)
    assert times is not None
    assert times.untimed == 3
    per_step = {name: times.ms_per_step(name) for name in times.phases}
    assert per_step == pytest.approx({"forward": 1, "copy": 10, "second": 1000, "other": 100})


def test_nothing_is_recorded_or_asked_during_a_capture(device: Device, profile: Steps) -> None:
    def step(number: int) -> None:
        with phase("forward"):
            device.work(1)
            device.capturing = number == 3
        if number == 5:
            CAPTURES.running += 1
        with phase("backward"):
            device.work(1)
        if number == 5:
            CAPTURES.running -= 1
        device.capturing = False

    times = profile(step, 9)
    assert times is not None
    assert times.untimed == 3
    assert times.steps == 8
    assert times.phases["forward"] == pytest.approx(7e-3)
    assert times.phases["backward"] == pytest.approx(6e-3)


def test_events_are_used_again_and_waited_for_without_a_wait(
    device: Device, profile: Steps
) -> None:
    def step(number: int) -> None:
        device.completed = number % 5 == 4
        with phase("forward"):
            device.work(number)
        with phase("backward"):
            device.work(number)

    times = profile(step, 50)
    assert times is not None
    assert len(device.events) < 6 * 5 + 5
    assert times.steps == 49
    assert times.phases["forward"] == pytest.approx(sum(range(1, 50)) / 1e3)


def test_a_broken_device_ends_the_recording_and_nothing_else(
    device: Device, profile: Steps
) -> None:
    def step(number: int) -> None:
        device.broken = number >= 7
        with phase("forward"):
            device.work(1)

    times = profile(step, 20)
    assert times is not None
    assert times.steps == 6
    assert times.problem == "device times end at step 7: CUDA error: unspecified launch failure"
    assert times.ms_per_step("forward") == pytest.approx(1)


def test_long_runs_are_sampled(device: Device, profile: Steps) -> None:
    def step(number: int) -> None:
        with phase("forward"):
            device.work(100 if number % 10 == 0 else 1)

    count = EVERY_STEP + 4000
    times = profile(step, count)
    assert times is not None
    assert EVERY_STEP + 350 < times.steps < EVERY_STEP + 450
    assert times.ms_per_step("forward") == pytest.approx(10.9, rel=0.05)
    assert len(device.events) < 10


def test_a_program_without_cuda_is_left_without_it() -> None:
    program = """
import sys
from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.gpu import DeviceSpans
with recording(Recorder()) as recorder:
    spans = DeviceSpans(recorder, 5)
    spans.end(); spans.begin()
    assert "torch" not in sys.modules
    import torch
    spans.end(); spans.begin()
    with phase("forward"):
        pass
    spans.end()
    assert spans.finish(0) is None
    assert not torch.cuda.is_initialized()
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


def test_graph_replays_end_steps_only_where_a_step_was_captured() -> None:
    steps: list[int] = []
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.step()
    cls = torch.cuda.CUDAGraph
    names = ("capture_begin", "capture_end", "replay")
    originals = {name: vars(cls)[name] for name in names}
    try:
        for name in names:
            setattr(cls, name, lambda graph, *args, **kwargs: None)
        with recording(Recorder()) as recorder, hooked(lambda: steps.append(1)):
            # Past the dummy class of a torch without CUDA.
            new = (object if torch.version.cuda is None else torch._C._CUDAGraph).__new__
            with_step, without = new(_Graph), new(_Graph)
            with_step.capture_begin()
            assert CAPTURES.running == 1
            optimizer.step()
            with_step.capture_end()
            without.capture_begin(pool=None)
            without.capture_end()
            assert (CAPTURES.running, steps) == (0, [])
            recorder.lap()
            without.replay()
            assert steps == []
            with_step.replay()
            assert steps == [1]
            assert recorder.lap().calls == {"graph_replay": 2}
            with_step.capture_begin()
            with_step.capture_end()
            with_step.replay()
            assert steps == [1]
            optimizer.step()
            assert steps == [1, 1]
    finally:
        for name, original in originals.items():
            setattr(cls, name, original)


class _Graph(torch.cuda.CUDAGraph):
    """Cannot be made without a device; its methods are replaced below a test's hooks."""

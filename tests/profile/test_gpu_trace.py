"""Traced steps: mapping of device work to phases, on made events and a real CPU trace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.gpu_events import (
    OTHER_THREADS,
    OUTSIDE,
    Interval,
    Timeline,
    device_work,
    phase_spans,
    read_events,
    step_intervals,
)
from tfa_perf.profile.gpu_trace import merged, summarize, write_trace
from tfa_perf.profile.gpu_window import PHASE_MARK, STEP_MARK, GpuProfile, TraceWindow
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.steps import StepLog

MAIN, AUTOGRAD, LOADER = 10, 11, 12


def mark(name: str, ts: float, dur: float) -> dict[str, Any]:
    return {"ph": "X", "cat": "user_annotation", "name": name, "tid": MAIN, "ts": ts, "dur": dur}


def launch(correlation: int, ts: float, tid: int = MAIN) -> dict[str, Any]:
    args = {"correlation": correlation}
    return {
        "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "tid": tid, "ts": ts,
        "dur": 1.0, "args": args,
    }  # fmt: skip


def work(correlation: int, ts: float, dur: float, **more: Any) -> dict[str, Any]:
    args = {"correlation": correlation, "device": more.pop("device", 0), "stream": 7}
    args |= {"bytes": more.pop("bytes")} if "bytes" in more else {}
    return {
        "ph": "X", "cat": "kernel", "name": "gemm", "tid": 7, "ts": ts, "dur": dur,
        "args": args, **more,
    }  # fmt: skip


def op(name: str, ts: float, dur: float, tid: int = MAIN) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "tid": tid, "ts": ts, "dur": dur, "args": {}}


# Two steps of 1000 us on the host. The device runs 100 us behind it and to the end of step two.
EVENTS: list[dict[str, Any]] = [
    mark(STEP_MARK, 0, 1000),
    mark(PHASE_MARK + "h2d", 100, 100),
    mark(PHASE_MARK + "forward", 200, 300),
    mark(PHASE_MARK + "augment", 300, 100),
    mark(PHASE_MARK + "backward", 500, 300),
    mark(STEP_MARK, 1000, 1000),
    mark(PHASE_MARK + "forward", 1200, 300),
    mark("theirs", 1200, 300),
    {"ph": "X", "cat": "gpu_user_annotation", "name": STEP_MARK, "tid": 7, "ts": 0, "dur": 1},
    op("aten::linear", 210, 80),
    op("aten::addmm", 220, 60),
    op("autograd::engine::evaluate_function: AddmmBackward0", 550, 100, AUTOGRAD),
    op("aten::mm", 560, 50, AUTOGRAD),
    launch(1, 150),
    work(1, 160, 40, cat="gpu_memcpy", name="Memcpy HtoD (Pinned -> Device)", bytes=4000),
    launch(2, 230),
    work(2, 300, 100),
    launch(3, 350),
    work(3, 400, 50, name="noise"),
    launch(4, 410),
    work(4, 450, 50, name="relu"),
    launch(5, 570, AUTOGRAD),
    work(5, 600, 200),
    launch(6, 700, LOADER),
    work(6, 700, 200, cat="gpu_memcpy", name="Memcpy DtoD (Device -> Device)", bytes=800),
    launch(7, 900),
    work(7, 900, 20, cat="gpu_memset", name="Memset (Device)"),
    launch(8, 1300),
    work(8, 1300, 700),
    work(99, 5, 5, name="earlier"),
    launch(9, 2100),
    work(9, 2150, 10, name="later"),
    {"ph": "s", "cat": "ac2g", "id": 1, "ts": 150, "tid": MAIN},
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
]


def test_work_goes_to_the_phase_that_launched_it() -> None:
    found = {(w.name, w.interval.begin): (w.phase, w.kind, w.op) for w in device_work(EVENTS)}
    assert found == {
        ("earlier", 5): (OUTSIDE, "kernel", ""),
        ("Memcpy HtoD (Pinned -> Device)", 160): ("h2d", "HtoD", ""),
        ("gemm", 300): ("forward", "kernel", "aten::addmm"),
        ("noise", 400): ("augment", "kernel", ""),
        ("relu", 450): ("forward", "kernel", ""),
        ("gemm", 600): ("backward", "kernel", "aten::mm"),
        ("Memcpy DtoD (Device -> Device)", 700): (OTHER_THREADS, "DtoD", ""),
        ("Memset (Device)", 900): ("other", "memset", ""),
        ("gemm", 1300): ("forward", "kernel", ""),
        ("later", 2150): (OUTSIDE, "kernel", ""),
    }


def test_summary_adds_up() -> None:
    trace = summarize(EVENTS)
    assert trace is not None
    assert (trace.steps, trace.devices, trace.step_ms) == (2, 1, 1.0)
    rows = {row.phase: row for row in trace.phases}
    # Half a step's worth each: us of two steps to ms of one.
    busy = {name: row.busy_ms * 2000 for name, row in rows.items()}
    assert busy == pytest.approx(
        {
            "h2d": 40, "forward": 850, "augment": 50, "backward": 200, OTHER_THREADS: 200,
            "other": 20, OUTSIDE: 15,
        }
    )  # fmt: skip
    idle = {name: row.idle_ms * 2000 for name, row in rows.items() if row.idle_ms}
    # Busy: 5-10, 160-200, 300-500, 600-900, 900-920, 1300-2000, 2150-2160 of the two steps.
    assert idle == pytest.approx(
        {"other": 95 + 80 + 200, "h2d": 60, "forward": 100 + 100, "backward": 100}
    )
    assert trace.idle_ms * 2000 == pytest.approx(735)
    assert trace.busy_ms * 2000 == pytest.approx(2000 - 735 + 10)
    assert rows["forward"].kernels == 1.5
    assert rows["h2d"].kernels == rows["other"].kernels == 0
    copies = rows["h2d"].copies["HtoD"]
    assert (copies.count, copies.bytes, copies.ms) == (0.5, 2000, pytest.approx(0.02))
    assert list(rows[OTHER_THREADS].copies) == ["DtoD"]
    assert [(k.name, k.phase, k.count) for k in trace.top][:3] == [
        ("gemm", "forward", 0.5),
        ("gemm", "backward", 0.5),
        ("gemm", "forward", 0.5),
    ]
    assert trace.top[0].ms == pytest.approx(0.35)
    assert len(summarize(EVENTS, top=2).top) == 2  # type: ignore[union-attr]


def test_two_devices_are_averaged() -> None:
    events = [
        mark(STEP_MARK, 0, 1000),
        launch(1, 0),
        work(1, 0, 400, device=0),
        launch(2, 1),
        work(2, 0, 200, device=1),
    ]
    trace = summarize(events)
    assert trace is not None
    assert trace.devices == 2
    assert (trace.busy_ms, trace.idle_ms) == pytest.approx((0.3, 0.7))


def test_no_device_work_is_no_trace() -> None:
    assert summarize(EVENTS[:13]) is None
    assert summarize([work(1, 0, 1)]) is None
    assert summarize([]) is None


def test_timeline_cuts_nested_spans_at_the_innermost() -> None:
    spans = [
        ("a", Interval(0, 10)),
        ("b", Interval(2, 8)),
        ("c", Interval(2, 4)),
        ("d", Interval(6, 8)),
        ("e", Interval(12, 13)),
    ]
    timeline = Timeline(spans)
    assert timeline.pieces == [
        ("a", (0, 2)), ("c", (2, 4)), ("b", (4, 6)), ("d", (6, 8)), ("a", (8, 10)), ("e", (12, 13)),
    ]  # fmt: skip
    assert [timeline.at(t) for t in (-1, 1, 3, 5, 9, 11, 12.5, 14)] == [
        None, "a", "c", "b", "a", None, "e", None,
    ]  # fmt: skip
    assert Timeline([]).at(1.0) is None


def test_merged_intervals() -> None:
    some = [Interval(5, 6), Interval(0, 2), Interval(1, 3), Interval(3, 4)]
    assert merged(some) == [Interval(0, 4), Interval(5, 6)]
    assert merged([]) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_trace_that_does_not_fit_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "t.json.gz.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_trace(tmp_path / "t.json.gz", [])
    assert not list(tmp_path.iterdir())


def test_written_trace_has_the_phases_as_their_own_track(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "trace.json.gz", EVENTS)
    events = read_events(path)
    assert events[: len(EVENTS)] == EVENTS
    track = events[len(EVENTS) :]
    assert len({(e["pid"], e["tid"]) for e in track}) == 1
    assert not {(e["pid"], e["tid"]) for e in track} & {
        (e.get("pid"), e.get("tid")) for e in EVENTS
    }
    shown = [(e["name"], e["ts"], e["dur"]) for e in track if e["ph"] == "X"]
    assert ("step 2", 1000, 1000) in shown
    assert ("augment", 300, 100) in shown
    assert len(shown) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["trace.json.gz"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"traceEvents": null}'])
def test_no_trace_is_an_error_that_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trace\.json is not a Chrome trace"):
        read_events(path)


def train(steps: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        with phase("augment"):
            x = torch.randn(32, 64)
        model(x).sum().backward()
        optimizer.step()


def test_a_real_trace_of_the_host_gives_its_ops_to_the_phases(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "trace.json"
    steps: list[int] = []
    with recording(Recorder()) as recorder:
        window = TraceWindow(recorder, 3, str(path))

        def cut() -> None:
            steps.append(1)
            if window.running:
                window.end_step()
            elif len(steps) == 2:
                window.start()

        with hooked(cut):
            train(8)
        assert recorder.lap().calls["forward"] == 8
    assert not window.running
    assert window.problem == ""
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert "KINETO_LOG_LEVEL" not in os.environ
    events = read_events(path)
    assert len(step_intervals(events)) == 3
    ops = [e for e in events if e.get("cat") == "cpu_op"]
    timeline = Timeline(phase_spans(events))
    inside = [(e["name"], timeline.at(e["ts"])) for e in ops]
    expected = {"aten::randn": "augment", "aten::addmm": "forward", "aten::relu": "forward"}
    for name, owner in expected.items():
        owners = {where for found, where in inside if found == name}
        assert owners == {owner}, (name, owners)
    backward = {where for found, where in inside if found.startswith("autograd::engine::evaluate")}
    assert backward == {"backward"}
    counts = [
        inside.count(pair) for pair in (("aten::randn", "augment"), ("aten::addmm", "forward"))
    ]
    assert counts == [3, 6]
    # The same mapping end to end: work that an op of that trace would have launched.
    addmm = next(e for e in ops if e["name"] == "aten::addmm")
    made = [launch(1, addmm["ts"] + addmm["dur"] - 1e-3, addmm["tid"]), work(1, addmm["ts"], 5)]
    (found,) = device_work([*events, *made])
    assert (found.phase, found.op) == ("forward", "aten::addmm")
    assert summarize(events) is None


def test_a_profiler_of_the_program_s_own_is_left_alone(tmp_path: Path) -> None:
    with recording(Recorder()) as recorder:
        window = TraceWindow(recorder, 3, str(tmp_path / "trace.json"))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
            torch.ones(3).cumsum(0)
            window.start()
            assert not window.running
            torch.ones(3).cos()
    assert window.problem == "no GPU trace: the program runs torch.profiler itself"
    assert {"aten::cumsum", "aten::cos"} <= {event.key for event in theirs.key_averages()}


def test_nothing_is_traced_without_a_device(tmp_path: Path) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("another test has initialised CUDA")
    with recording(Recorder()) as recorder:
        log = StepLog(recorder)
        gpu = GpuProfile(recorder, log, 3, str(tmp_path / "trace.json"))
        with hooked(gpu.cut):
            train(12)
        found = gpu.finish(5)
        times = log.finish()
    assert times.steps == 12
    assert found == (None, "no GPU work to trace: the program does not use CUDA")


def test_steps_told_to_skip_are_in_no_average() -> None:
    with recording(Recorder()) as recorder:
        log = StepLog(recorder)
        for step in range(30):
            with phase("traced" if 10 <= step < 15 else "forward"):
                pass
            if 10 <= step < 15:
                log.skip()
            else:
                log.cut()
        times = log.finish()
    assert (times.steps, times.measured_steps) == (25, 20)
    assert times.measured.calls == {"forward": 20}
    assert times.whole.calls == {"forward": 25, "traced": 5}

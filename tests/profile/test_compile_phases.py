"""Compilers as phases of their own: the real torch.compile, Numba and, where it is, Triton."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numba.core.event
import pytest
import torch

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.sampler import run_profiled
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.source import phase_of
from tfa_perf.profile.stacks import phase_shares


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A recorder under all hooks, with nothing compiled before."""
    torch.compiler.reset()
    with recording(Recorder()) as active, hooked():
        yield active
    torch.compiler.reset()


def slow_backend(graph: Any, inputs: Any) -> Any:
    time.sleep(0.05)
    return graph.forward


def model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def test_compiling_is_not_forward(recorder: Recorder) -> None:
    compiled = torch.compile(model(), backend=slow_backend)
    recorder.lap()
    compiled(torch.ones(2, 4))
    lap = recorder.lap()
    assert lap.calls == {"forward": 1, "torch_compile": 1}
    assert lap.phases["torch_compile"] >= 0.05
    assert sum(lap.phases.values()) == lap.wall_s
    compiled(torch.ones(2, 4))
    assert recorder.lap().calls == {"forward": 1}


def test_compiling_again_counts_again_and_after_a_reset(recorder: Recorder) -> None:
    compiled = torch.compile(model(), backend="eager", dynamic=False)
    recorder.lap()
    for rows in (2, 3, 3, 5):
        compiled(torch.ones(rows, 4))
    assert recorder.lap().calls == {"forward": 4, "torch_compile": 3}
    torch.compiler.reset()
    compiled(torch.ones(2, 4))
    assert recorder.lap().calls == {"forward": 1, "torch_compile": 1}


def test_the_backward_graph_is_compiled_out_of_backward(recorder: Recorder) -> None:
    compiled = torch.compile(model(), backend="aot_eager")
    x = torch.ones(2, 4)
    recorder.lap()
    loss = compiled(x).sum()
    forward = recorder.lap()
    loss.backward()
    backward = recorder.lap()
    assert forward.calls == {"forward": 1, "torch_compile": 1}
    assert backward.calls == {"backward": 1, "torch_compile": 1}
    compiled(x).sum().backward()
    assert recorder.lap().calls == {"forward": 1, "backward": 1}


def test_a_backward_compiled_on_a_thread_of_autograd_is_the_main_thread_s(
    recorder: Recorder,
) -> None:
    import _thread

    from torch._dynamo.callback import CallbackTrigger, callback_handler

    done = _thread.allocate_lock()
    done.acquire()

    def compile_there() -> None:
        try:
            with callback_handler.install_callbacks(CallbackTrigger.LAZY_BACKWARD, "0/0"):
                time.sleep(0.02)
        finally:
            done.release()

    recorder.lap()
    with phase("backward"):
        # As autograd's: made in C, unknown to threading.
        _thread.start_new_thread(compile_there, ())
        done.acquire()
    lap = recorder.lap()
    assert lap.calls == {"backward": 1, "torch_compile": 1}
    assert lap.phases["torch_compile"] >= 0.02
    assert sum(lap.phases.values()) == lap.wall_s


def test_compiling_on_a_thread_of_the_program_s_is_that_thread_s(recorder: Recorder) -> None:
    compiled = torch.compile(model(), backend="eager")
    thread = threading.Thread(target=lambda: compiled(torch.ones(2, 4)), name="worker")
    recorder.lap()
    with phase("waiting"):
        thread.start()
        thread.join()
    assert recorder.lap().calls == {"waiting": 1}
    assert recorder.other_threads()["worker"]["torch_compile"] > 0


def test_a_failed_compilation_leaves_no_span_open(recorder: Recorder) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("mine")

    recorder.lap()
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="mine"):
        torch.compile(model(), backend=broken)(torch.ones(2, 4))
    lap = recorder.lap()
    assert lap.calls == {"forward": 1, "torch_compile": 1}
    assert recorder.open_spans() == ()


def test_nothing_stays_behind() -> None:
    from torch._dynamo.callback import CompilationCallbackHandler, callback_handler

    before = vars(CompilationCallbackHandler)["install_callbacks"]
    listeners = len(numba.core.event._registered["numba:compiler_lock"])
    with recording(Recorder()), hooked():
        assert vars(CompilationCallbackHandler)["install_callbacks"] is not before
        assert len(numba.core.event._registered["numba:compiler_lock"]) == listeners + 1
    assert vars(CompilationCallbackHandler)["install_callbacks"] is before
    assert len(numba.core.event._registered["numba:compiler_lock"]) == listeners
    assert callback_handler.start_callbacks == []


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_inductor(recorder: Recorder) -> None:
    net = model()
    compiled = torch.compile(net)
    x = torch.ones(2, 4)
    recorder.lap()
    value = compiled(x)
    lap = recorder.lap()
    assert lap.phases["torch_compile"] > 10 * lap.phases["forward"]
    assert torch.allclose(value, net(x))
    value.sum().backward()
    lap = recorder.lap()
    assert set(lap.calls) >= {"backward"}
    compiled(x).sum().backward()
    assert "torch_compile" not in recorder.lap().calls


CACHED = """
import numba

@numba.njit(cache=True)
def double(x):
    return x + x
"""


def test_numba_compiles_and_loads_from_its_cache_in_a_phase(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cached.py").write_text(CACHED)
    names: list[dict[str, int]] = []
    for _ in range(2):
        space: dict[str, Any] = {"__name__": "cached", "__file__": str(tmp_path / "cached.py")}
        code = compile(CACHED, str(tmp_path / "cached.py"), "exec")
        exec(code, space)
        recorder.lap()
        assert space["double"](2) == 4
        lap = recorder.lap()
        assert lap.phases["numba_compile"] > 0.5 * lap.wall_s
        assert space["double"](3) == 6
        assert "numba_compile" not in recorder.lap().calls
        names.append(dict(space["double"].stats.cache_hits))
    assert [len(hits) for hits in names] == [0, 1]


def test_numba_ufuncs_and_failures(recorder: Recorder) -> None:
    recorder.lap()
    add = numba.vectorize(["float64(float64, float64)"])(lambda x, y: x + y)
    assert recorder.lap().calls["numba_compile"] >= 1
    assert add(1.0, 2.0) == 3.0
    with pytest.raises(numba.TypingError):
        numba.njit(lambda x: x.nosuch)(1)
    assert recorder.open_spans() == ()
    with phase("forward"):
        numba.njit(lambda x: x * 3)(1)
    lap = recorder.lap()
    assert lap.calls["forward"] == 1
    assert lap.phases["numba_compile"] > lap.phases["forward"]


def test_triton_compiles_in_a_phase(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (tmp_path / "kernel.py").write_text(
        "import triton\nimport triton.language as tl\n\n"
        "@triton.jit\ndef double(x, n, BLOCK: tl.constexpr):\n"
        "    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
        "    tl.store(x + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import kernel  # type: ignore[import-not-found]

    source = triton.compiler.ASTSource(
        kernel.double,
        signature={"x": "*fp32", "n": "i32", "BLOCK": "constexpr"},
        constexprs={"BLOCK": 64},
    )
    recorder.lap()
    with phase("forward"):
        triton.compile(source, target=GPUTarget("cuda", 80, 32))
    lap = recorder.lap()
    assert lap.calls == {"forward": 1, "triton_compile": 1}
    assert lap.phases["triton_compile"] > lap.phases["forward"]
    assert sum(lap.phases.values()) == lap.wall_s


def test_triton_s_own_listener_is_called_and_put_back() -> None:
    from types import SimpleNamespace

    from tfa_perf.profile.compile_phases import listen_to_triton

    seen: list[dict[str, Any]] = []

    def theirs(**compiled: Any) -> None:
        seen.append(compiled)

    knobs: Any = SimpleNamespace(compilation=SimpleNamespace(listener=theirs))
    with recording(Recorder()) as recorder:
        stop = listen_to_triton(knobs)
        recorder.lap()
        with phase("forward"):
            time.sleep(0.03)
            knobs.compilation.listener(times=SimpleNamespace(total=20_000), cache_hit=False)
        lap = recorder.lap()
    assert lap.phases["triton_compile"] == pytest.approx(0.02, abs=1e-6)
    assert lap.phases["forward"] >= 0.01
    assert sum(lap.phases.values()) == lap.wall_s
    assert [compiled["cache_hit"] for compiled in seen] == [False]
    stop()
    assert knobs.compilation.listener is theirs


SCRIPT = """
import torch, numba, time
def slow(graph, inputs):
    time.sleep(0.4)
    return graph.forward
model = torch.nn.Linear(4, 1)
compiled = torch.compile(model, backend=slow, dynamic=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    numba.njit(lambda x: x + 1)(step)
    compiled(torch.ones(step + 1, 4)).sum().backward()
    optimizer.step()
"""


def test_stacks_agree_with_the_timers(script: Any, tmp_path: Path) -> None:
    result = run_profiled([str(script(SCRIPT))], tmp_path / "out", sampler="inprocess", rate=200)
    assert result.exit_code == 0
    times = result.times
    assert times is not None
    whole = times.whole.phases
    assert whole["torch_compile"] > 1.6
    main = [s for s in result.stacks if s.thread == MAIN]
    sampled = {
        name: sum(s.weight for s in main if name in s.frames[:2])
        for name in ("torch_compile", "numba_compile")
    }
    for name, seconds in sampled.items():
        assert seconds == pytest.approx(whole[name], rel=0.3, abs=0.15), (name, sampled, whole)
    assert set(phase_shares(result.stacks)) >= {"torch_compile", "numba_compile"}


def test_only_the_compilers_own_files_count() -> None:
    assert phase_of("_compile", "/x/torch/_dynamo/convert_frame.py", 5) == "torch_compile"
    assert phase_of("compile", "/x/numba/core/dispatcher.py", 5) == "numba_compile"
    assert phase_of("compile", "/home/me/dispatcher.py", 5) is None
    assert phase_of("_compile", "/x/mytorch/_dynamo/convert_frame.py", 5) is None

from __future__ import annotations

import gc
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.samples import Frame
from tfa_perf.profile.source import definition_line, phase_of
from tfa_perf.profile.stacks import find_phase

# Each line that ends in `# NAME: PHASE` calls here(); the stack seen from it must have that phase.
PROGRAM = """
from tfa_perf import profile
from tfa_perf.profile import phase as timed, phase
from tfa_perf.profile.laps import OTHER


def plain(here):
    here("other")
    with phase("a"):
        here("a")
        with timed("b"), open(__file__):
            here("b")
            with open(__file__), profile.phase("c"):
                here("c")
            here("b")
        called(here, "a")
    here("other")
    with phase("d"), phase("e"):
        here("e")


def called(here, expected):
    here(expected)


@phase("whole")
def decorated(here):
    here("whole")
    with phase("part"):
        here("part")
        [here("part") for _ in range(2)]
        (lambda: here("part"))()
    called(here, "whole")

    def inner():
        here("whole")

    inner()


def closures(here):
    with phase("maker"):
        def made():
            here("other")

        later = lambda: here("other")
    made()
    later()


class Holder:
    @profile.phase("method")
    def method(self, here):
        here("method")

    @phase("outer")
    @phase("nearer")
    def twice(self, here):
        here("nearer")


def main(here):
    plain(here)
    decorated(here)
    closures(here)
    Holder().method(here)
    Holder().twice(here)
"""


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    module = ModuleType("program")
    module.__file__ = str(path)
    exec(compile(PROGRAM, str(path), "exec"), module.__dict__)
    return module


def stack_here() -> tuple[Frame, ...]:
    """The caller's stack as a sampler would give it, without this test's own frames."""
    frames = []
    frame = inspect.currentframe()
    while frame is not None:
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        if frame.f_code.co_filename != __file__:
            frames.append(Frame(name, frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(reversed(frames))


def test_stack_rule_agrees_with_the_timers(program: ModuleType) -> None:
    from tfa_perf.profile import Recorder, recording

    seen: list[str] = []

    def here(expected: str) -> None:
        assert find_phase(stack_here())[0] == expected
        assert recorder._main.top == expected
        seen.append(expected)

    with recording(Recorder()) as recorder:
        program.main(here)
    assert len(seen) == 19
    assert set(seen) == {OTHER, "a", "b", "c", "e", "whole", "part", "method", "nearer"}


def test_stack_rule_agrees_with_the_timers_inside_hooks() -> None:
    import torch

    from tfa_perf.profile import Recorder, phase, recording
    from tfa_perf.profile.hooks import hooked

    seen: list[str] = []

    def check() -> None:
        frames, frame = [], inspect.currentframe()
        while frame is not None:
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
            frames.append(Frame(name, frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        found = find_phase(frames[::-1])[0]
        assert found == recorder._main.top
        seen.append(found)

    class Checked(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            check()
            return x

    class Inner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            check()
            with phase("augment"):
                check()
                torch.nn.Sequential(torch.nn.Identity(), Checked())(x)
            return Grad.apply(x)

    class Grad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            check()
            torch.nn.ReLU()(grad)
            return grad

    class Step(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            check()
            torch.nn.Sequential(Inner())(weight)
            if closure is not None:
                closure()  # type: ignore[operator]

    def closure() -> None:
        check()
        Inner()(weight).sum().backward()

    weight = torch.nn.Parameter(torch.ones(2))
    with recording(Recorder()) as recorder, hooked():
        check()
        torch.nn.Sequential(Inner())(weight).sum().backward()
        Step([weight], lr=0.1).step()
        Step([weight], lr=0.1).step(closure)
        with phase("validate"):
            Inner()(weight)
        rows = torch.utils.data.TensorDataset(weight)
        next(iter(torch.utils.data.DataLoader(rows, collate_fn=lambda batch: check())))
    assert seen == [
        "other", "forward", "augment", "augment", "backward", "optimizer", "optimizer",
        "augment", "augment", "optimizer", "optimizer", "augment", "augment", "other", "forward",
        "augment", "augment", "backward", "validate", "augment", "augment", "data_wait",
    ]  # fmt: skip


def test_unreadable_source_has_no_phase(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("with phase('a'):\n  (")
    for path in (str(broken), str(tmp_path / "absent.py"), "<frozen runpy>", sys.executable):
        assert phase_of("f", path, 2) is None
        assert definition_line("f", path, 2) is None


def test_definition_line_is_the_nearest_def_above(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(
        "class A:\n    def f(self):\n        pass\nclass B:\n    async def f(self):\n  x\n"
    )
    assert definition_line("A.f", str(path), 3) == 2
    assert definition_line("B.f", str(path), 6) == 5
    assert definition_line("B.<lambda>", str(path), 6) is None


def test_sources_are_read_on_several_threads(tmp_path: Path) -> None:
    block = "    with phase('forward'):\n" + "        x = f(1, [2, (3, g(a=4))])\n" * 40
    paths = [tmp_path / f"m{n}.py" for n in range(60)]
    for path in paths:
        path.write_text(f"def run():\n{block}")

    class Finalized:
        # Python code that the collector runs in the middle of parsing lets other threads go on.
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            sum(range(20))

    def read(share: list[Path]) -> list[str | None]:
        found = []
        for path in share:
            Finalized()
            found.append(phase_of("run", str(path), 5))
        return found

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(read, (paths[::3], paths[1::3], paths[2::3])))
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert found == [["forward"] * 20] * 3

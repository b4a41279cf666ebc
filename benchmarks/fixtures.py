"""The fixtures by which benchmarks time, compare and measure; conftest.py hands them out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks import memory, sizes
from benchmarks.peaks import COPIED, flops_of, peak_per_s
from benchmarks.rounds import Alternation, Row, repeats
from benchmarks.run import BOTTLENECKS, IMPLS, OTHERS, RUN, Key, name_of

__all__ = [
    "across_windows",
    "impl",
    "in_turn",
    "installed",
    "measure",
    "measure_memory",
    "rows",
    "size",
    "timer",
    "versus",
]

Call = Callable[[], object]
FEWEST = 8


@pytest.fixture(scope="session")
def size() -> sizes.Size:
    return sizes.current()


@pytest.fixture(scope="session")
def rows(size: sizes.Size) -> int:
    return size.bars


@pytest.fixture
def impl(request: pytest.FixtureRequest) -> str:
    """The side to time; where both are, a parameter of the test instead."""
    return str(request.config.option.impl)


@pytest.fixture(scope="session", autouse=True)
def _two_sides_same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


@pytest.fixture
def timer(request: pytest.FixtureRequest) -> Callable[[], float]:
    """The clock that pytest-benchmark uses for this test."""
    marker = request.node.get_closest_marker("benchmark")
    if marker is not None and "timer" in marker.kwargs:
        clock: Callable[[], float] = marker.kwargs["timer"]
        return clock
    module, _, name = request.config.option.benchmark_timer.rpartition(".")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


@pytest.fixture
def in_turn(benchmark, request, timer) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """Rounds of ``own``, which pytest-benchmark times, with ``other`` in turn, for one row."""
    config = request.config

    def run(
        key: Key, own_is: str, own: Call, other: Call, rounds: int, peak: str, work: dict[str, Any]
    ) -> None:
        benchmark.group = key[1]
        config.stash[RUN].row_of[request.node.nodeid] = key
        if not benchmark.enabled:
            benchmark.pedantic(own)
            return
        own()
        flops, copied = work.pop("flops"), work.pop("copied")
        others_too = config.option.impl == "both"
        row = config.stash[RUN].rows.setdefault(key, Row(**work))
        if row.flops is None and flops:
            shown = other if own_is == "before" and others_too else own
            row.flops, peak = flops_of(shown), "GEMM"
        if row.flops or row.moved:
            row.peak = row.peak or peak
            row.peak_per_s += peak_per_s(row.peak, copied)
        others: list[float] = []
        if others_too:
            other()
            turns = Alternation(other, timer)
            benchmark.pedantic(own, setup=turns.first, teardown=turns.second, rounds=rounds)
            # --benchmark-cprofile adds rounds of its own.
            others = turns.times[:rounds]
        else:
            benchmark.pedantic(own, rounds=rounds)
        if row.peak:
            row.peak_per_s += peak_per_s(row.peak, copied)
        times = list(benchmark.stats.stats.data)
        row.again += repeats(times) + repeats(others, 1)
        getattr(row, own_is).extend(times)
        getattr(row, IMPLS[1 - IMPLS.index(own_is)]).extend(others)
        benchmark.extra_info["ratio"] = str(row.ratio)

    return run


@pytest.fixture
def measure(in_turn, request) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``measure(sides, impl, rounds=20)``: time ``sides[impl]``, the other side in turn with it.

    Compare the outputs of the two first. Of one round the table can show ``samples`` (windows or
    bars) and ``moved`` (bytes) per second, and its share of a measured ``peak``: of "memcpy" in
    pieces of ``copied`` bytes, of "copy to the GPU", or with ``flops=True`` of a GEMM.
    """

    def run(
        sides: dict[str, Call],
        impl: str,
        *,
        rounds: int = 20,
        samples: int | None = None,
        moved: int | None = None,
        copied: int = COPIED,
        flops: bool = False,
        peak: str = "memcpy",
    ) -> None:
        if request.config.option.aa:
            sides = dict.fromkeys(IMPLS, sides["after"])
        other = sides[IMPLS[1 - IMPLS.index(impl)]]
        work = {"samples": samples, "moved": moved, "copied": copied, "flops": flops}
        key = (BOTTLENECKS, name_of(request.node))
        in_turn(key, impl, sides[impl], other, rounds, peak, work)

    return run


@pytest.fixture
def versus(in_turn, request) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``versus(name, other, ours, pairs=10)``: time the two in turn, for a row of that name.

    Compare their outputs first. pytest-benchmark times ours; ``--impl before`` takes the other.
    There are 8 pairs at least, without which A/A has no interval.
    """

    def run(
        name: str,
        other: Call,
        ours: Call,
        *,
        pairs: int = 10,
        samples: int | None = None,
        moved: int | None = None,
        copied: int = COPIED,
    ) -> None:
        sides = {"before": ours if request.config.option.aa else other, "after": ours}
        own = "before" if request.config.option.impl == "before" else "after"
        work = {"samples": samples, "moved": moved, "copied": copied, "flops": False}
        rounds = max(pairs, FEWEST)
        in_turn((OTHERS, name), own, sides[own], sides["before"], rounds, "memcpy", work)

    return run


@pytest.fixture
def installed(request: pytest.FixtureRequest) -> Callable[[str, str], Any]:
    """``installed(row, module)``: the module of another library.

    Without it the test is skipped, and the table says so under the row's name.
    """

    def find(row: str, module: str) -> Any:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError:
            package = module.partition(".")[0]
            why = f"{package} is not installed: pip install 'tfa-perf[peers]'"
            request.config.stash[RUN].not_there[row] = why
            pytest.skip(f"{row}: {why}")

    return find


@pytest.fixture
def across_windows(benchmark, request, timer) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``across_windows(name, sides, cells, pairs=10)``: time each window in turn with the first.

    sides: a build of so many cells per window; the times are kept in ns per cell.
    """

    def run(name: str, sides: dict[int, Call], cells: int, *, pairs: int = 10) -> None:
        benchmark.group = name
        (_, shortest), *longer = sides.items()
        times: dict[int, list[float]] = {window: [] for window, _ in longer}

        def run_longer() -> None:
            for window, build in longer:
                start = timer()
                build()
                times[window].append(timer() - start)

        if not benchmark.enabled:
            run_longer()
            benchmark.pedantic(shortest)
            return
        shortest()
        run_longer()
        times = {window: [] for window in times}
        benchmark.pedantic(shortest, setup=run_longer, rounds=pairs)
        first = [t / cells * 1e9 for t in benchmark.stats.stats.data]
        table = request.config.stash[RUN].lengths[name] = {next(iter(sides)): Row(first, first)}
        for window, found in times.items():
            table[window] = Row([t / cells * 1e9 for t in found[:pairs]], first)

    return run


@pytest.fixture
def measure_memory(request, size, tmp_path) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``measure_memory(case)``: peak memory of each side in fresh processes, outputs compared."""
    option = request.config.option

    def run(case: str) -> None:
        if option.benchmark_skip:
            pytest.skip("--benchmark-skip")
        sides = IMPLS if option.impl == "both" else (option.impl,)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for process in range(1 if option.benchmark_disable else size.processes):
            for side in sides[:: 1 if process % 2 == 0 else -1]:
                folder = tmp_path / side
                run_side = "after" if option.aa else side
                found[side].append(memory.in_fresh_process(case, run_side, size.name, folder))
            if len(sides) == 2:
                memory.compare(case, *(tmp_path / side for side in IMPLS))
        if not option.benchmark_disable:
            request.config.stash[RUN].memory[case] = found

    return run

"""What every benchmark shares: interleaved rounds, autosave, and tables of paired ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from rich.console import Console
from rich.table import Table

from tfa_perf.claims.measure import interleave, paired_ratio

IMPLS = ("before", "after")


@dataclass
class Pairs:
    """Times (s) of rounds of the two sides that ran next to each other."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


_results = pytest.StashKey[dict[str, Pairs]]()
_peers = pytest.StashKey[dict[str, Pairs]]()
_lengths = pytest.StashKey[dict[str, dict[int, Pairs]]]()

# What a plain run leaves out.
ON_DEMAND = {"peers": "other libraries", "lengths": "every window length"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--size",
        choices=("small", "large"),
        default="small",
        help="rows of the feature benchmarks: 200,000 or 1,000,000",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_results] = {}
    config.stash[_peers] = {}
    config.stash[_lengths] = {}
    # Without a saved run the next --benchmark-compare has nothing to compare with.
    if not config.option.benchmark_autosave and not config.option.benchmark_disable:
        config.option.benchmark_autosave = time.strftime("autosave_%Y%m%d_%H%M%S")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, what in ON_DEMAND.items():
        if marker not in config.option.markexpr:
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"{what}: run with -m {marker}"))


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> int:
    return 1_000_000 if request.config.getoption("--size") == "large" else 200_000


@pytest.fixture(scope="session", autouse=True)
def _two_sides_same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


@pytest.fixture
def measure(benchmark, request) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``measure(sides, impl, rounds=20)``: time one side, the other run before every round.

    pytest-benchmark times ``sides[impl]``; the setup of each round runs and times the other
    side, so that the two alternate and each round gives a pair.
    """

    def run(sides: dict[str, Callable[[], object]], impl: str, *, rounds: int = 20) -> None:
        name = request.node.originalname.removeprefix("test_")
        benchmark.group = name
        own, other = sides[impl], sides[IMPLS[1 - IMPLS.index(impl)]]
        own()
        other_times: list[float] = []

        def run_other() -> None:
            start = time.perf_counter()
            other()
            other_times.append(time.perf_counter() - start)

        run_other()
        other_times.clear()
        benchmark.pedantic(own, setup=run_other, rounds=rounds)
        if benchmark.stats is None:
            return
        own_times = list(benchmark.stats.stats.data)
        pairs = request.config.stash[_results].setdefault(name, Pairs())
        getattr(pairs, impl).extend(own_times)
        getattr(pairs, IMPLS[1 - IMPLS.index(impl)]).extend(other_times[-len(own_times) :])
        benchmark.extra_info["paired_ratio"] = str(paired_ratio(pairs.before, pairs.after))

    return run


@pytest.fixture
def versus(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``versus(name, other, ours, pairs=10)``: time the two in turn, for a row of that name."""

    def run(
        name: str, other: Callable[[], object], ours: Callable[[], object], *, pairs: int = 10
    ) -> None:
        other()
        ours()
        request.config.stash[_peers][name] = Pairs(*interleave(other, ours, pairs))

    return run


@pytest.fixture
def across_windows(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``across_windows(name, sides, cells, pairs=10)``: time each window in turn with the first.

    sides: a build of so many cells per window; the times are kept in ns per cell.
    """

    def run(
        name: str, sides: dict[int, Callable[[], object]], cells: int, *, pairs: int = 10
    ) -> None:
        shortest = next(iter(sides.values()))
        rows = request.config.stash[_lengths].setdefault(name, {})
        for window, build in sides.items():
            build()
            times = interleave(build, shortest, pairs)
            rows[window] = Pairs(*([t / cells * 1e9 for t in side] for side in times))

    return run


def _print_lengths(
    terminalreporter: pytest.TerminalReporter, results: dict[str, dict[int, Pairs]]
) -> None:
    if not results:
        return
    windows = list(next(iter(results.values())))
    table = Table(title=f"ns per row; times as long as window {windows[0]}, median with interval")
    table.add_column("op")
    for window in windows:
        table.add_column(f"w {window}", justify="right")
    for window in windows[1:]:
        table.add_column(f"{window} : {windows[0]}", justify="right")
    for name, rows in results.items():
        costs = [sorted(pairs.before)[len(pairs.before) // 2] for pairs in rows.values()]
        ratios = [paired_ratio(rows[w].before, rows[w].after) for w in windows[1:]]
        table.add_row(name, *(f"{cost:.2f}" for cost in costs), *map(str, ratios))
    terminalreporter.ensure_newline()
    Console(file=terminalreporter._tw._file, width=160).print(table)


def _print_table(
    terminalreporter: pytest.TerminalReporter,
    title: str,
    headings: tuple[str, ...],
    results: dict[str, Pairs],
) -> None:
    if not results:
        return
    table = Table(title=f"{title}, median of paired rounds with its 95 % interval")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for name, pairs in results.items():
        ratio = paired_ratio(pairs.before, pairs.after)
        medians = [sorted(side)[len(side) // 2] * 1e3 for side in (pairs.before, pairs.after)]
        table.add_row(
            name, *(f"{m:.3f}" for m in medians), str(ratio), str(ratio.pairs), ratio.verdict
        )
    terminalreporter.ensure_newline()
    Console(file=terminalreporter._tw._file, width=100).print(table)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    headings = ("bottleneck", "before ms", "after ms", "before/after", "pairs", "after is")
    _print_table(terminalreporter, "before / after", headings, config.stash[_results])
    headings = ("columns", "other ms", "ours ms", "other/ours", "pairs", "ours is")
    _print_table(terminalreporter, "others / ours", headings, config.stash[_peers])
    _print_lengths(terminalreporter, config.stash[_lengths])

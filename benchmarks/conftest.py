"""What every benchmark shares: interleaved rounds, autosave, and a table of paired ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from rich.console import Console
from rich.table import Table

from tfa_perf.claims.measure import paired_ratio

IMPLS = ("before", "after")


@dataclass
class Pairs:
    """Times (s) of rounds of the two sides that ran next to each other."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


_results = pytest.StashKey[dict[str, Pairs]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_results] = {}
    # Without a saved run the next --benchmark-compare has nothing to compare with.
    if not config.option.benchmark_autosave and not config.option.benchmark_disable:
        config.option.benchmark_autosave = time.strftime("autosave_%Y%m%d_%H%M%S")


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


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:  # type: ignore[no-untyped-def]
    results = config.stash[_results]
    if not results:
        return
    table = Table(title="before / after, median of paired rounds with its 95 % interval")
    for heading in ("bottleneck", "before ms", "after ms", "before/after", "pairs", "after is"):
        table.add_column(heading, justify="left" if heading == "bottleneck" else "right")
    for name, pairs in results.items():
        ratio = paired_ratio(pairs.before, pairs.after)
        medians = [sorted(side)[len(side) // 2] * 1e3 for side in (pairs.before, pairs.after)]
        table.add_row(
            name, *(f"{m:.3f}" for m in medians), str(ratio), str(ratio.pairs), ratio.verdict
        )
    terminalreporter.ensure_newline()
    Console(file=terminalreporter._tw._file, width=100).print(table)

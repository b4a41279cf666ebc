"""What every benchmark shares: sizes, sides, interleaved rounds, saved runs and tables.

Options beside pytest-benchmark's own, all of which keep their meaning:

``--size small|default|large``  how much work (benchmarks/sizes.py)
``--impl before|after|both``    one side alone, under test ids that do not name it; or both in turn
``--aa``                        the after side on both sides: whatever the table claims is noise
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import machine, saved, sizes
from benchmarks.fixtures import (  # noqa: F401
    _two_sides_same_threads,
    across_windows,
    impl,
    in_turn,
    installed,
    measure,
    measure_memory,
    rows,
    size,
    timer,
    versus,
)
from benchmarks.run import BOTTLENECKS, IMPLS, OTHERS, RUN, Run, name_of
from benchmarks.tables import print_lengths, print_memory, print_one_side, print_rows
from tfa_perf.interrupts import interruptible

SIDES = {BOTTLENECKS: IMPLS, OTHERS: ("other", "ours")}
TITLES = {BOTTLENECKS: "before and after", OTHERS: "others and ours"}
HERE = Path(__file__).resolve().parent
# What a plain run leaves out.
ON_DEMAND = {
    "peers": "other libraries",
    "lengths": "every window length",
    "blocks": "a table larger than memory",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks of tfa-perf")
    group.addoption("--size", choices=tuple(sizes.SIZES), default="default", help="how much work")
    group.addoption(
        "--impl",
        choices=(*IMPLS, "both"),
        default="both",
        help="one side alone, to be compared with a saved run of the other; or both in turn",
    )
    group.addoption("--aa", action="store_true", help="the after side on both sides: noise alone")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUN] = Run()
    sizes.choose(config.getoption("--size"))
    option = config.option
    # pytest-benchmark takes the second of each pair for stronger.
    option.benchmark_disable &= not option.benchmark_enable
    option.benchmark_skip &= not option.benchmark_only
    given = any(str(a).startswith("--benchmark-timer") for a in config.invocation_params.args)
    if torch.cuda.is_available() and not given:
        option.benchmark_timer = "benchmarks.timers.synchronised"
    if not (option.benchmark_disable or option.benchmark_skip or option.collectonly or option.aa):
        # Without a saved run the next --benchmark-compare has nothing to compare with.
        option.benchmark_save_data = True
        option.benchmark_autosave = option.benchmark_autosave or time.strftime("%Y%m%d_%H%M%S")
    if option.benchmark_compare is True and "://" not in _storage(config):
        # Which saved run holds the selected tests is known once they are collected.
        option.benchmark_compare = []
        config.stash[RUN].wants_partner = True


def _storage(config: pytest.Config) -> str:
    return str(config.option.benchmark_storage).removeprefix("file://")


def _kind(config: pytest.Config) -> saved.Kind:
    return saved.Kind(config.option.size, config.option.impl != "both")


def _partner(config: pytest.Config) -> str:
    gate, kind = config.option.benchmark_compare_fail, _kind(config)
    found = saved.partner(
        Path(_storage(config)),
        HERE.parent / ".benchmarks",
        kind,
        config.stash[RUN].selected,
        elsewhere=not gate,
    )
    if found is not None:
        return str(found)
    missing = f"no run on this machine with {kind} and all of the selected benchmarks"
    if gate:
        raise pytest.UsageError(
            f"--benchmark-compare-fail: there is {missing} in {_storage(config)}; run "
            "pytest with the same options but without --benchmark-compare-fail first"
        )
    # No file is called so: pytest-benchmark says that it found none, and goes on.
    return missing


def pytest_report_header(config: pytest.Config) -> str:
    option = config.option
    sides = "after on both sides" if option.aa else option.impl
    return f"tfa-perf: size {option.size}, impl {sides}"


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    note = config.stash[RUN].note
    return [f"tfa-perf: {note}"] if note else []


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return machine.info()


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, compared_benchmark: dict[str, Any]
) -> None:
    run = config.stash[RUN]
    run.compared.append(compared_benchmark)
    if saved.is_elsewhere(compared_benchmark):
        run.note = "compared with another machine: read ratios only"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "impl" in metafunc.fixturenames and metafunc.config.option.impl == "both":
        metafunc.parametrize("impl", IMPLS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, what in ON_DEMAND.items():
        if marker not in config.option.markexpr:
            for item in items:
                found = item.get_closest_marker(marker)
                if found is not None and not found.kwargs.get("always"):
                    item.add_marker(pytest.mark.skip(reason=f"{what}: run with -m {marker}"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    run = config.stash[RUN]
    run.selected = {
        item.nodeid for item in session.items if item.get_closest_marker("skip") is None
    }
    if run.wants_partner:
        benchmarks = config.pluginmanager.get_plugin("pytest-benchmark")
        benchmarks.compare = _partner(config)
        benchmarks.handle_loading()


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[RUN].left_out += len(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    try:
        return (yield)
    except KeyboardInterrupt:
        item.config.stash[RUN].failed[item.nodeid] = name_of(item)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        item.config.stash[RUN].failed[item.nodeid] = name_of(item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main() -> Iterator[int]:
    with interruptible() as received:
        code = yield
    return 128 + received[0] if received else code


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    session.config.stash[RUN].succeeded = exitstatus == pytest.ExitCode.OK
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_generate_json(benchmarks: list[Any]) -> Iterator[dict[str, Any]]:
    # pytest-benchmark asks for the least of no rounds where one was broken off.
    benchmarks[:] = [bench for bench in benchmarks if bench]
    return (yield)


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    run = config.stash[RUN]
    # What failed after it was timed has no number either.
    output_json["benchmarks"] = [
        bench for bench in output_json["benchmarks"] if bench["fullname"] not in run.failed
    ]
    asked = {(config.invocation_params.dir / arg).resolve() for arg in config.args}
    everything = bool(asked & {HERE, *HERE.parents}) and not (
        config.option.ignore or config.option.ignore_glob or getattr(config.option, "lf", False)
    )
    output_json[saved.KEY] = saved.record(
        _kind(config),
        "aa" if config.option.aa else config.option.impl,
        complete=run.succeeded and everything and not run.left_out and not config.option.aa,
        tests=run.selected if run.succeeded and not config.option.aa else set(),
        regressed=_regressed(config, benchmarks),
        rows=run.sound_rows,
        memory=run.memory,
    )


def _regressed(config: pytest.Config, benchmarks: list[Any]) -> bool:
    """Whether the gate of --benchmark-compare-fail is about to close."""
    checks = config.option.benchmark_compare_fail or ()
    for compared in config.stash[RUN].compared:
        before = {bench["fullname"]: bench["stats"] for bench in compared["benchmarks"]}
        for bench in benchmarks:
            earlier = before.get(bench.fullname) if bench else None
            if earlier and any(check.fails(bench, earlier) for check in checks):
                return True
    return False


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    try:
        # pytest-benchmark raises where its gate closes; the tables are wanted then too.
        return (yield)
    finally:
        if not config.option.benchmark_quiet or config.option.benchmark_verbose:
            _print_tables(terminalreporter, config)


def _print_tables(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run, asked = config.stash[RUN], config.option.impl
    then = saved.rows_of(run.compared[0]) if run.compared else {}
    then_title = saved.title_of(run.compared[0]) if run.compared else ""
    terminalreporter.ensure_newline()
    for table, sides in SIDES.items():
        found = {name: row for (t, name), row in run.sound_rows.items() if t == table}
        earlier = {name: row for (t, name), row in then.items() if t == table}
        write, title = terminalreporter.write, TITLES[table]
        if asked == "both":
            print_rows(write, title, sides, found, earlier, then_title)
        else:
            side = sides[IMPLS.index(asked)]
            print_one_side(write, title, side, found, earlier, then_title)
    for name, why in run.not_there.items():
        terminalreporter.write_line(f"{name}: skipped, {why}")
    print_memory(terminalreporter.write, run.memory)
    print_lengths(terminalreporter.write, run.lengths)
    for name in dict.fromkeys(run.failed.values()):
        terminalreporter.write_line(f"{name}: failed or broken off, so there is no number")

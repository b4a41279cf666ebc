"""The printed result of a memory run."""

from __future__ import annotations

from collections import defaultdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.profile.memory import MemoryProfile

_PLACES = 10


def show_memory(console: Console, profile: MemoryProfile, label: str) -> None:
    """Print what was held at the peak by phase, and the places that allocated most of it."""
    if profile.stacks is None:
        console.print(
            f"no memory profile: the program ended with code {profile.exit_code} without running "
            "its exit handlers"
        )
        return
    peak = profile.peak_mib
    held = profile.phases()
    title = f"{label}: {peak:.1f} MiB on the host at the peak"
    table = Table(title=title, title_justify="left")
    table.add_column("phase that allocated it")
    for heading in ("MiB", "share %", *(("GPU MiB, at least",) if profile.gpu else ())):
        table.add_column(heading, justify="right")
    for name in [*held, *(name for name in profile.gpu if name not in held)]:
        mib = held.get(name, 0.0)
        row = [escape(name), f"{mib:.1f}", f"{100 * mib / peak if peak else 0.0:.1f}"]
        if profile.gpu:
            row.append(f"{profile.gpu[name]:.1f}" if name in profile.gpu else "")
        table.add_row(*row)
    console.print(table)
    places: defaultdict[tuple[str, str], float] = defaultdict(float)
    for stack in profile.stacks:
        places[stack.frames[0], stack.frames[-1]] += stack.weight
    top = Table(title="places that allocated most of it", title_justify="left")
    top.add_column("place")
    top.add_column("phase")
    top.add_column("MiB", justify="right")
    for (name, place), mib in sorted(places.items(), key=lambda item: -item[1])[:_PLACES]:
        top.add_row(escape(place), escape(name), f"{mib:.1f}")
    console.print(top)
    console.print(
        "no times: tracking every allocation slows a program, some parts more than others"
    )
    for file in profile.files:
        console.print(f"  {file}", soft_wrap=True, highlight=False, markup=False)
    for problem in profile.problems:
        console.print(f"tfa_perf.profile: {problem}", markup=False, soft_wrap=True)

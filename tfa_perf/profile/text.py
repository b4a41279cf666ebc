"""A whole result as text, for a terminal without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from tfa_perf.profile.flame import Node
from tfa_perf.profile.icicle import main_tree
from tfa_perf.profile.palette import phase_colour
from tfa_perf.profile.run import Run

__all__ = ["Path", "hottest", "print_text"]

_BAR = 30
_PATHS = 10
# Fewer characters name no file.
_PLACE = 8


class Path(NamedTuple):
    """Frames from the phase on, and the ms per step spent in the last of them itself."""

    frames: tuple[str, ...]
    ms: float


def hottest(root: Node, count: int = _PATHS) -> list[Path]:
    """The paths of a tree with the most time in their last frame, the longest first."""
    return sorted(_own(root), key=lambda path: (-path.ms, path.frames))[:count]


def _own(root: Node) -> Iterator[Path]:
    waiting: list[tuple[tuple[str, ...], Node]] = [((), root)]
    while waiting:
        frames, node = waiting.pop()
        own = node.total - sum(child.total for child in node.children.values())
        # Sums of floats: what is left of a frame that only calls others is not quite 0.
        if frames and own > 1e-9 * root.total:
            yield Path(frames, own)
        waiting += [((*frames, child.name), child) for child in node.children.values()]


def print_text(console: Console, run: Run) -> None:
    """Phase bars, the ten hottest paths and the verdict; coloured on a terminal alone."""
    fills = "█" if "utf" in console.encoding.lower() else "#"
    _line(console, Text(f"{run.label}: {run.ms_per_step:.3f} {run.unit}", style="bold"))
    longest = max((len(row.phase) for row in run.rows), default=0)
    for row in run.rows:
        line = Text(f"{row.phase:<{longest}} {row.ms:>10.3f} {100 * row.share:>5.1f} % ")
        line.append(f"{fills * round(_BAR * row.share):<{_BAR}}", style=phase_colour(row.phase))
        if row.stack_share is not None:
            line.append(f" stacks {100 * row.stack_share:>5.1f} %")
        _line(console, line)
    _line(console, Text(run.note))
    for warning in run.warnings:
        _line(console, Text(f"warning: {warning}", style="yellow"))
    if run.samples:
        _line(console, Text(f"\nhottest paths of {run.samples} stacks", style="bold"))
        for path in hottest(main_tree(run)):
            share = 100 * path.ms / run.ms_per_step
            head = f"{share:>5.1f} % {path.ms:>9.3f} {run.unit} "
            line = Text(head)
            line.append(_elided(path.frames, console.width - len(head)))
            _line(console, line)
    if run.verdict:
        _line(console, Text(f"\n{run.verdict}", style="bold"))


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def _elided(frames: tuple[str, ...], room: int) -> str:
    """Phase and frames, those in the middle left out until the rest fits the room."""
    text = " > ".join(frames)
    first = 1
    while len(text) > room and first < len(frames) - 1:
        first += 1
        text = " > ".join((frames[0], "...", *frames[first:]))
    if len(text) <= room:
        return text
    # The end of a path says more than its beginning.
    whole, _, place = text.rpartition(" (")
    return f"{whole} (...{place[-left:]}" if (left := room - len(whole) - 5) >= _PLACE else whole

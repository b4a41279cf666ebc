"""The page of a comparison: phase table, difference flame graph, new and removed frames."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.comparison import Change, Comparison
from tfa_perf.profile.difference import Difference, FoundFrame
from tfa_perf.profile.page import chart_page

__all__ = ["LISTED", "write_difference"]

LISTED = 20
_CHART_NOTE = (
    "Width is ms per step of the run shown. Red grew, blue shrank, grey is within the error of "
    "sampling. Frames are matched by function and file. Click one to zoom, the bar on top to go "
    "back."
)


def write_difference(path: str | Path, comparison: Comparison, difference: Difference) -> Path:
    """Write the page as one file without network use and return its path."""
    names = comparison.before.name, comparison.after.name
    title = f"{names[0]} before and after" if names[0] == names[1] else " and ".join(names)
    rows = "".join(map(_row, (comparison.step, *comparison.phases)))
    different = "".join(
        f"<p>differs: {html.escape(str(mismatch))}</p>" for mismatch in comparison.mismatches
    )
    commands = "".join(
        f"<p>{side}: python {html.escape(' '.join(run.command))}</p>"
        for side, run in (("before", comparison.before), ("after", comparison.after))
    )
    top = (
        f'{commands}{different}<div class="wide"><table class="overview difference"><thead><tr>'
        "<th>phase</th><th>before ms</th><th>after ms</th><th>difference</th><th>95 % interval</th>"
        f'<th class="words">verdict</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p>{comparison.note}</p><div class="runs">'
        f"{_frames('New frames', difference.new())}"
        f"{_frames('Removed frames', difference.removed())}</div>"
    )
    return write_text(path, chart_page(title, top, [("", difference.charts())], _CHART_NOTE))


def _row(change: Change) -> str:
    interval = change.interval
    between = f"[{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    kind = ("grew" if change.ms > 0 else "shrank") if change.detected else ""
    return (
        f'<tr><th scope="row">{html.escape(change.name)}</th><td>{change.before_ms:.3f}</td>'
        f'<td>{change.after_ms:.3f}</td><td class="{kind}">{change.ms:+.3f}</td>'
        f'<td>{between}</td><td class="words {kind}">{change.verdict}</td></tr>'
    )


def _frames(title: str, frames: Sequence[FoundFrame]) -> str:
    if not frames:
        return f"<section><h2>{title}</h2><p>none above the error of sampling</p></section>"
    rows = "".join(
        f'<tr><td class="frame">{html.escape(" > ".join(frame.path))}</td>'
        f"<td>{frame.ms:.3f}</td></tr>"
        for frame in frames[:LISTED]
    )
    more = f"<p>and {len(frames) - LISTED} more</p>" if len(frames) > LISTED else ""
    return (
        f"<section><h2>{title}</h2><table><thead><tr><th>path</th><th>ms/step</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}</section>"
    )

"""A self-contained, zoomable flame graph page whose top frames are the phases of a step."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.gpu_report import device_cells
from tfa_perf.profile.icicle import Chart, main_chart, thread_charts
from tfa_perf.profile.page_assets import STYLE
from tfa_perf.profile.page_script import SCRIPT
from tfa_perf.profile.palette import phase_colour
from tfa_perf.profile.rank_table import slowest
from tfa_perf.profile.run import Run

__all__ = ["Run", "chart_page", "write_page"]

_NOTE = (
    "Width is time, sampled; on the main thread it is that of the measured steps, with phases on "
    "top. Click a frame to zoom, the bar on top to go back."
)
_SHOWN_SHARE = 0.01


def chart_page(
    title: str, top: str, groups: Sequence[tuple[str, Sequence[Chart]]], note: str = _NOTE
) -> str:
    """The page's text: `top` is HTML before the charts, a group is a label with its charts.

    With several groups one is chosen at a time, the first at first. `note`, text, stands above the
    chart.
    """
    data: list[dict[str, Any]] = [
        {"label": label, "charts": [vars(chart) for chart in charts]} for label, charts in groups
    ]
    # Names come from the profiled program: nothing in them may end the script.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{top}"
        '<div class="controls"><label id="runs">run <select id="run"></select></label>'
        '<label id="roots">show <select id="root"></select></label>'
        '<input id="find" type="search" placeholder="find frames" aria-label="find frames">'
        f'<output id="found"></output></div><p id="info">{html.escape(note)}</p>'
        '<div id="flame"></div>'
        f"<script>{get_plotlyjs()}</script><script>const groups = {text};{SCRIPT}</script>"
        "</body></html>\n"
    )


def _table(run: Run) -> str:
    lines = []
    on_device = any(row.device_ms is not None for row in run.rows)
    for row in run.rows:
        device = "".join(f"<td>{cell}</td>" for cell in device_cells(row.device_ms, on_device))
        stacks = "" if row.stack_share is None else f"{100 * row.stack_share:.1f}"
        lines.append(
            f'<tr><th scope="row"><i style="background:{phase_colour(row.phase)}"></i>'
            f"{html.escape(row.phase)}</th><td>{row.ms:.3f}</td>"
            f'<td class="bar"><b style="width:{100 * row.share:.1f}%;'
            f'background:{phase_colour(row.phase)}"></b><span>{100 * row.share:.1f}</span></td>'
            f"{device}<td>{row.calls:.2f}</td><td>{stacks}</td></tr>"
        )
    per = "/step" if run.steps else ""
    advice = f'<p class="verdict">{html.escape(run.verdict)}</p>' if run.verdict else ""
    device = f"<th>device ms{per}</th>" if on_device else ""
    warnings = "".join(f'<p class="warning">{html.escape(line)}</p>' for line in run.warnings)
    return (
        f"<section><h2>{html.escape(run.label)}: {run.ms_per_step:.2f} {run.unit}</h2>"
        f"<p>{html.escape(run.detail)}</p><table><thead><tr><th>phase</th><th>{run.unit}</th>"
        f"<th>share %</th>{device}<th>calls{per}</th><th>stacks %</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{advice}"
        f"<p>{html.escape(run.note)}</p>{warnings}</section>"
    )


def _overview(runs: Sequence[Run], last: int | None) -> str:
    """A line for each run: its time per step, as a bar too, and its longer phases."""
    phases = {
        row.phase: None for run in runs for row in run.rows if row.share >= _SHOWN_SHARE
    }  # in order of their first appearance
    most = max(run.ms_per_step for run in runs) or 1.0
    head = "".join(f"<th>{html.escape(phase)}</th>" for phase in phases)
    lines = []
    for place, run in enumerate(runs):
        times = {row.phase: row.ms for row in run.rows}
        cells = "".join(f"<td>{times.get(phase, 0.0):.2f}</td>" for phase in phases)
        mark = " (slowest)" if place == last else ""
        lines.append(
            f'<tr{" class=slowest" if mark else ""}><th scope="row">{html.escape(run.label)}{mark}'
            f'</th><td class="bar"><b style="width:{100 * run.ms_per_step / most:.1f}%"></b>'
            f"<span>{run.ms_per_step:.2f}</span></td>{cells}</tr>"
        )
    return (
        f'<div class="wide"><table class="overview"><thead><tr><th>run</th><th>{runs[0].unit}</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def write_page(
    path: str | Path,
    runs: Sequence[Run],
    title: str = "Where a step goes",
    *,
    selector: bool = False,
) -> Path:
    """Write the page for one run, or for several, as one file without network use.

    Several runs stand side by side: the first level is the run, as wide as its time per step, so
    that equal widths are equal times. With `selector` they are ranks of one program: one is shown
    at a time, the one that the others wait for at first, below a table of all.

    Raises
    ------
    ValueError : `runs` is empty.
    """
    if not runs:
        raise ValueError("runs is empty; give at least one Run")
    tables = "".join(map(_table, runs))
    groups: list[tuple[str, Sequence[Chart]]]
    if selector and len(runs) > 1:
        last = slowest(runs)
        order = sorted(range(len(runs)), key=lambda place: place != last)
        shown = [runs[place] for place in order]
        groups = [
            (
                f"{run.label}: {run.ms_per_step:.2f} {run.unit}"
                f"{' (slowest)' if place == last else ''}",
                [main_chart([run]), *thread_charts(run)],
            )
            for place, run in zip(order, shown, strict=True)
        ]
        tables = "".join(map(_table, shown))
        top = f'{_overview(runs, last)}<div class="runs chosen">{tables}</div>'
    else:
        charts = [main_chart(runs)]
        for run in runs:
            for chart in thread_charts(run):
                if len(runs) > 1:
                    chart.title = f"{run.label}, {chart.title}"
                charts.append(chart)
        groups = [("", charts)]
        top = f'<div class="runs">{tables}</div>'
    return write_text(path, chart_page(title, top, groups))

"""A self-contained, zoomable flame graph page whose top frames are the phases of a step."""

from __future__ import annotations

import colorsys
import html
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from tfa_perf.profile.flame import MAIN, OUTSIDE_STEPS, Node, Stack, build_tree, phase_shares
from tfa_perf.profile.gpu_report import device_cells
from tfa_perf.profile.machine import machine
from tfa_perf.profile.page_assets import NOTE, SCRIPT, STYLE
from tfa_perf.profile.phases import OTHER
from tfa_perf.profile.sampler import ProfileResult
from tfa_perf.profile.steps import PhaseRow

# In the order of a step, so that two runs line up; the hue of each in degrees.
_HUES = {
    "data_wait": 28,
    "h2d": 50,
    "zero_grad": 172,
    "forward": 212,
    "validation": 232,
    "backward": 262,
    "clip": 90,
    "optimizer": 140,
    "loss_read": 335,
    "logging": 300,
    "checkpoint": 192,
    "device_wait": 0,
    "graph_replay": 248,
    "numba_compile": 15,
    "torch_compile": 5,
    "triton_compile": 350,
}
_ORDER = {name: place for place, name in enumerate(_HUES)}
_OTHER_THREADS = "other threads"
_THREADS_WIDTH = 0.05
_IDLE_SHARE = 0.98
_PRUNE_SHARE = 0.001
_NEUTRAL = "#c9ced6"
_LEVEL_PX = 25
_MAX_LEVELS = 34


@dataclass(frozen=True)
class Run:
    """One profiled run on the page.

    `ms_per_step` sets its width beside another run. `steps` counts the measured steps; with 0 all
    times are of the whole run. `detail` is a line of text below the label.
    """

    label: str
    stacks: Sequence[Stack]
    steps: int
    ms_per_step: float
    rows: Sequence[PhaseRow]
    detail: str = ""
    rate: int = 100

    @classmethod
    def of(cls, result: ProfileResult, label: str) -> Run:
        """A result of `run_profiled` under a name."""
        times = result.times
        details = [" ".join(("python", *result.command)), f"{result.sampler}: {result.reason}"]
        if times is not None and times.measured_steps:
            details.append(f"{times.measured_steps} steps after {times.warmup_steps} of warm-up")
        found = machine(times.environment if times else {})
        return cls(
            label=label,
            stacks=result.stacks,
            steps=times.measured_steps if times else 0,
            ms_per_step=times.ms_per_step if times else 1e3 * result.wall_s,
            rows=times.rows(phase_shares(result.stacks)) if times else [],
            detail=" · ".join([*details, *(f"{key} {value}" for key, value in found.items())]),
            rate=result.rate,
        )

    @property
    def unit(self) -> str:
        return "ms/step" if self.steps else "ms"


def phase_colour(name: str, shade: float = 0.5) -> str:
    """A phase's colour, the same on every page; `shade` runs from 0 (darker) to 1."""
    hue = _HUES.get(name, zlib.crc32(name.encode()) % 360)
    saturation = 0.0 if name == OTHER else 0.62
    r, g, b = colorsys.hls_to_rgb(hue / 360, 0.66 + 0.16 * shade, saturation)
    return f"#{round(255 * r):02x}{round(255 * g):02x}{round(255 * b):02x}"


class _Icicle:
    """Columns of the plot: one entry per node, values in integer nanoseconds of a step."""

    def __init__(self, total: float) -> None:
        self.total = total
        self.labels: list[str] = []
        self.parents: list[str] = []
        self.values: list[int] = []
        self.colours: list[str] = []
        self.hovers: list[str] = []
        self.depth = 0

    def add(self, parent: str, label: str, ms: float, colour: str, hover: str) -> str:
        self.labels.append(html.escape(label))
        self.parents.append(parent)
        self.values.append(round(ms * 1e6))
        self.colours.append(colour)
        self.hovers.append(hover)
        return str(len(self.labels) - 1)

    def add_below(
        self, parent: str, node: Node, run: Run, scale: float, phase: str, depth: int
    ) -> None:
        """Add the children of `node`, pruned; `scale` is ms on the page per sampled second."""
        self.depth = max(self.depth, depth)
        for child in _ordered(node.children.values(), depth):
            ms = child.total * scale
            if ms < _PRUNE_SHARE * self.total:
                continue
            name = phase or child.name
            share = 100 * ms / max(run.ms_per_step, 1e-12)
            samples = f"{round(child.total * run.rate)} samples"
            hover = f"{share:.1f} % · {ms:.3f} {run.unit} · {samples}"
            if phase == _OTHER_THREADS:
                hover = f"{samples} · beside the main thread, width not to scale"
            shade = 0.5 if not phase else (zlib.crc32(child.name.encode()) % 101) / 100
            label = child.name if phase else f"{child.name} ({ms:.2f} {run.unit})"
            colour = phase_colour(OTHER if name == _OTHER_THREADS else name, shade)
            title = f"<b>{html.escape(child.name)}</b><br>"
            key = self.add(parent, label, ms, colour, title + hover)
            self.add_below(key, child, run, scale, name, depth + 1)

    def settle(self) -> None:
        """Raise each value to at least the sum of its children, which rounding can break."""
        below: defaultdict[str, int] = defaultdict(int)
        for index in range(len(self.values) - 1, -1, -1):
            self.values[index] = max(self.values[index], below[str(index)])
            below[self.parents[index]] += self.values[index]


def _ordered(nodes: Iterable[Node], depth: int) -> list[Node]:
    last = len(_ORDER)
    if depth > 1:
        return sorted(nodes, key=lambda n: (-n.total, n.name))
    return sorted(nodes, key=lambda n: (n.name == OTHER, _ORDER.get(n.name, last), n.name))


def _main_tree(run: Run) -> Node:
    """Phases and frames of the measured steps; phases alone when nothing was sampled."""
    inside = [
        (stack.frames, stack.weight)
        for stack in run.stacks
        if stack.thread == MAIN and stack.frames[0] != OUTSIDE_STEPS
    ]
    return build_tree(inside or [((row.phase,), row.ms) for row in run.rows])


def busy_threads(stacks: Iterable[Stack]) -> list[Stack]:
    """Stacks of the threads other than main that did more than wait in one place."""
    by_thread: defaultdict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        if stack.thread != MAIN:
            by_thread[stack.thread].append(stack)
    busy: list[Stack] = []
    for thread in by_thread.values():
        most = Counter(stack.frames for stack in thread).most_common(1)[0][1]
        if most < _IDLE_SHARE * len(thread):
            busy.extend(thread)
    return busy


def _icicle(runs: Sequence[Run]) -> _Icicle:
    main_ms = sum(run.ms_per_step for run in runs)
    threads = [(run, busy_threads(run.stacks)) for run in runs]
    shown = [(run, stacks) for run, stacks in threads if stacks]
    total = main_ms * (1 + _THREADS_WIDTH) if shown else main_ms
    plot = _Icicle(max(total, 1e-9))
    single = len(runs) == 1
    first = runs[0]
    text = f"{first.label} ({first.ms_per_step:.2f} {first.unit})" if single else "one step of each"
    root = plot.add("", text, total, _NEUTRAL, f"<b>{html.escape(text)}</b>")
    for run in runs:
        parent = root
        if not single:
            text = f"{run.label} ({run.ms_per_step:.2f} {run.unit})"
            hover = f"<b>{html.escape(text)}</b>"
            parent = plot.add(root, text, run.ms_per_step, _NEUTRAL, hover)
        tree = _main_tree(run)
        scale = run.ms_per_step / tree.total if tree.total else 0.0
        plot.add_below(parent, tree, run, scale, "", 1)
    if shown:
        width = main_ms * _THREADS_WIDTH
        hover = f"<b>{_OTHER_THREADS}</b><br>width not to scale"
        parent = plot.add(root, _OTHER_THREADS, width, _NEUTRAL, hover)
        for run, stacks in shown:
            tree = build_tree((stack.frames, stack.weight) for stack in stacks)
            scale = width / len(shown) / tree.total
            plot.add_below(parent, tree, run, scale, _OTHER_THREADS, 2)
    plot.settle()
    return plot


def _figure(runs: Sequence[Run]) -> go.Figure:
    plot = _icicle(runs)
    levels = min(plot.depth + (2 if len(runs) > 1 else 1), _MAX_LEVELS)
    figure = go.Figure(
        go.Icicle(
            ids=[str(index) for index in range(len(plot.labels))],
            labels=plot.labels,
            parents=plot.parents,
            values=plot.values,
            textinfo="text",
            hovertext=plot.hovers,
            hoverinfo="text",
            branchvalues="total",
            sort=False,
            maxdepth=_MAX_LEVELS,
            marker={"colors": plot.colours, "line": {"width": 1, "color": "rgba(255,255,255,.55)"}},
            tiling={"orientation": "v", "pad": 0},
            textfont={"size": 12, "color": "#14181f"},
            textposition="middle left",
            leaf={"opacity": 1},
            pathbar={"thickness": 22, "textfont": {"size": 12, "color": "#14181f"}},
        )
    )
    figure.update_layout(
        template="none",
        autosize=True,
        height=levels * _LEVEL_PX + 40,
        margin={"l": 0, "r": 0, "t": 30, "b": 4},
        paper_bgcolor="rgba(0,0,0,0)",
        uniformtext={"minsize": 11, "mode": "hide"},
        font={"family": "system-ui, sans-serif"},
        hoverlabel={"font": {"size": 13, "color": "#14181f"}, "align": "left"},
    )
    return figure


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
    device = f"<th>device ms{per}</th>" if on_device else ""
    return (
        f"<section><h2>{html.escape(run.label)}: {run.ms_per_step:.2f} {run.unit}</h2>"
        f"<p>{html.escape(run.detail)}</p><table><thead><tr><th>phase</th><th>{run.unit}</th>"
        f"<th>share %</th>{device}<th>calls{per}</th><th>stacks %</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></section>"
    )


def write_page(path: str | Path, runs: Sequence[Run], title: str = "Where a step goes") -> Path:
    """Write the page for one run, or for several side by side, as one file without network use.

    With several runs the first level is the run, as wide as its time per step, so that equal widths
    are equal times.

    Raises
    ------
    ValueError : `runs` is empty.
    """
    if not runs:
        raise ValueError("runs is empty; give at least one Run")
    chart = _figure(runs).to_html(
        full_html=False,
        include_plotlyjs=True,
        post_script=SCRIPT,
        config={"responsive": True, "displayModeBar": False},
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{html.escape(title)}</h1><div class="runs">{"".join(map(_table, runs))}</div>'
        f"<p>{NOTE}</p>{chart}</body></html>\n"
    )
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path

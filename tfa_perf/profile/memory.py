"""What a program holds in memory at its peak, as a flame graph rooted at phases, through memray."""

from __future__ import annotations

import html
import importlib.util
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tfa_perf.profile.atomic import write_each, write_text
from tfa_perf.profile.flame import Node, build_tree
from tfa_perf.profile.icicle import PRUNE_SHARE, Chart
from tfa_perf.profile.launch import Stream, WorkFiles, launch
from tfa_perf.profile.page import chart_page
from tfa_perf.profile.palette import NEUTRAL, frame_colour, in_step_order, phase_colour
from tfa_perf.profile.samples import MAIN, Frame, Sample
from tfa_perf.profile.stacks import Stack, root_at_phases

MEMORY_PAGE = "memory.html"
MEMORY_STACKS = "memory.collapsed"
MEMORY_FILE = "memory.json"

_MIB = 1 << 20
_INTERPRETER = "interpreter"
_NOTE = (
    "Width is memory held when the program held most, by the stack that allocated it, with phases "
    "on top. Click a frame to zoom, the bar on top to go back."
)


class MemrayMissing(RuntimeError):
    """memray is not installed: one line with the command that installs it."""


@dataclass(frozen=True)
class MemoryProfile:
    """What a program held at its peak.

    `exit_code` is the program's own, 128 + n when signal n ended it. `stacks` are the allocations
    that were alive at the peak, root first as for time, weights in MiB; None when the program ended
    without running its exit handlers. `gpu` has, for each phase, the most MiB that torch had
    allocated on the GPU where the phase began or ended or set a new peak: the phase that set the
    run's peak has it exactly, for others it is a lower bound. Empty without CUDA. `files` are
    those written and `problems` says which could not be.
    """

    command: tuple[str, ...]
    exit_code: int
    stacks: list[Stack] | None
    gpu: dict[str, float]
    files: tuple[Path, ...]
    problems: tuple[str, ...] = ()

    @property
    def peak_mib(self) -> float:
        return sum(stack.weight for stack in self.stacks or ())

    def phases(self) -> dict[str, float]:
        """MiB held at the peak by the phase or thread that allocated them, most first."""
        held: defaultdict[str, float] = defaultdict(float)
        for stack in self.stacks or ():
            held[stack.frames[0]] += stack.weight
        return dict(sorted(held.items(), key=lambda item: (-item[1], item[0])))


def check_memray() -> None:
    """Raise `MemrayMissing` where memray is not installed."""
    if importlib.util.find_spec("memray") is None:
        raise MemrayMissing(
            "--memory needs memray, which is not installed: pip install 'tfa-perf[memory]'"
        )


def peak_samples(path: str | Path) -> list[Sample]:
    """The allocations alive at the peak of a memray file, with the stack of each in MiB."""
    from memray import FileReader

    samples = []
    with FileReader(path) as reader:
        main = reader.metadata.main_thread_id
        for record in reader.get_high_watermark_allocation_records(merge_threads=False):
            frames = tuple(Frame(*entry) for entry in reversed(record.stack_trace()))
            thread = MAIN if record.tid == main else record.thread_name.strip() or "unnamed"
            # A thread that runs no Python has no frames of ours to show.
            shown = frames or (Frame("no Python code", f"<{_INTERPRETER}>", 0),)
            samples.append(Sample(thread, shown, record.size / _MIB))
    return samples


def memory_chart(stacks: Iterable[Stack], label: str) -> Chart:
    """The chart of the page: phases and threads below the whole peak, values in MiB."""
    tree = build_tree((stack.frames, stack.weight) for stack in stacks)
    chart = Chart("peak memory", unit="MiB")
    root = chart.add(-1, f"{label} ({tree.total:.1f} MiB at the peak)", 1e6 * tree.total, NEUTRAL)
    least = PRUNE_SHARE * tree.total

    def note(node: Node) -> str:
        return f"{100 * node.total / tree.total:.1f} % · {node.total:.3f} MiB"

    for top in in_step_order(tree.children.values()):
        if top.total < least or not top.total:
            continue
        title = f"{top.name} {100 * top.total / tree.total:.1f} % ({top.total:.1f} MiB)"
        place = chart.add(root, title, 1e6 * top.total, phase_colour(top.name), note(top))

        def look(node: Node, phase: str = top.name) -> tuple[str, str]:
            return frame_colour(phase, node.name), note(node)

        chart.add_frames(place, top, 1e6, least, look)
    chart.depth += 2
    return chart.settle()


def run_memory(
    command: Sequence[str],
    out_dir: str | Path,
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> MemoryProfile:
    """Run ``script.py args...`` or ``-m module args...`` under memray; write its peak by phase.

    Writes `memory.html`, `memory.collapsed` (bytes) and `memory.json` into `out_dir`, which is made
    when missing. No times come of such a run: tracking every allocation slows it unevenly.
    Arguments are those of `run_profiled`.

    Raises
    ------
    MemrayMissing : memray is not installed.
    ValueError : an empty `command`.
    """
    check_memray()
    if not command or (command[0] == "-m" and len(command) < 2):
        raise ValueError("command is empty; give a script with its arguments, or -m and a module")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    label = name or out_dir.resolve().name
    streams = {"env": env, "cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    with tempfile.TemporaryDirectory(prefix="tfa-perf-memory-") as folder:
        files = WorkFiles(Path(folder))
        ended = launch(command, "none", 1, {"memory": str(files.memory)}, files, streams)
        # Both are written by the program's exit handlers, this one last.
        if not files.phases.exists():
            return MemoryProfile(tuple(command), ended.code, None, {}, ())
        gpu = json.loads(files.phases.read_text(encoding="utf-8"))["gpu_memory"]
        stacks = root_at_phases(peak_samples(files.memory))
    found = MemoryProfile(tuple(command), ended.code, stacks, gpu, ())
    written, problems = _write(out_dir, found, label)
    return replace(found, files=tuple(written), problems=tuple(problems))


def _write(out_dir: Path, found: MemoryProfile, label: str) -> tuple[list[Path], list[str]]:
    stacks = found.stacks or []
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for stack in stacks:
        counts[stack.frames] += stack.weight
    lines = [f"{';'.join(frames)} {round(mib * _MIB)}\n" for frames, mib in sorted(counts.items())]
    document: dict[str, Any] = {
        "format": 1,
        "name": label,
        "command": list(found.command),
        "exit_code": found.exit_code,
        "peak_mib": found.peak_mib,
        "phases_mib": found.phases(),
        "gpu_mib": found.gpu,
    }
    title = f"What {label} holds in memory at its peak"
    top = f"<p>{html.escape(' '.join(('python', *found.command)))}</p>"
    groups = [("", [memory_chart(stacks, label)])]
    texts = {
        MEMORY_FILE: json.dumps(document, indent=1) + "\n",
        MEMORY_STACKS: "".join(lines),
        MEMORY_PAGE: chart_page(title, top, groups, note=_NOTE),
    }
    return write_each(
        (out_dir / name, partial(write_text, text=text)) for name, text in texts.items()
    )

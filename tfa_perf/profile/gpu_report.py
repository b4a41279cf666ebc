"""The device's part of the printed result."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.profile.gpu_trace import GpuTrace, TracedPhase
from tfa_perf.profile.steps import PhaseTimes

_KERNEL_WIDTH = 60


def device_cells(device_ms: float | None, shown: bool) -> tuple[str, ...]:
    """The cell of the column "device ms", where the table has one."""
    if not shown:
        return ()
    return ("" if device_ms is None else f"{device_ms:.3f}",)


def show_device(console: Console, times: PhaseTimes, trace: GpuTrace | None) -> None:
    """Print how the device times came about, and the GPU trace or why there is none."""
    device = times.device
    if device is not None:
        text = (
            f"device ms: between CUDA events on the stream, {device.steps} of "
            f"{times.measured_steps} steps; waiting for the host is in them"
        )
        if device.untimed:
            text += f"; {device.untimed} spans on changing streams or in captures left out"
        console.print(text, soft_wrap=True)
        if device.problem:
            console.print(escape(device.problem), soft_wrap=True)
    if trace is not None:
        _show_trace(console, trace)
    elif times.gpu_trace_problem:
        console.print(escape(times.gpu_trace_problem), soft_wrap=True)


def _show_trace(console: Console, trace: GpuTrace) -> None:
    title = f"GPU trace of {trace.steps} more steps, not in the times above: {trace.step_ms:.3f} ms"
    if trace.devices > 1:
        title += f"; busy and idle are means over {trace.devices} devices"
    table = Table(title=title, title_justify="left")
    for heading in ("phase", "busy ms/step", "idle ms/step", "kernels/step", "copies/step"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for row in trace.phases:
        table.add_row(
            escape(row.phase),
            f"{row.busy_ms:.3f}",
            f"{row.idle_ms:.3f}",
            f"{row.kernels:.1f}",
            _copies(row),
        )
    table.add_section()
    kernels = sum(row.kernels for row in trace.phases)
    table.add_row("all", f"{trace.busy_ms:.3f}", f"{trace.idle_ms:.3f}", f"{kernels:.1f}", "")
    console.print(table)
    top = Table(title="kernels that take most", title_justify="left")
    for heading in ("kernel", "op", "phase", "ms/step", "calls/step"):
        right = heading in ("ms/step", "calls/step")
        top.add_column(heading, justify="right" if right else "left")
    for kernel in trace.top:
        name = kernel.name
        short = name if len(name) <= _KERNEL_WIDTH else f"{name[: _KERNEL_WIDTH - 1]}…"
        top.add_row(
            escape(short),
            escape(kernel.op),
            escape(kernel.phase),
            f"{kernel.ms:.3f}",
            f"{kernel.count:.1f}",
        )
    console.print(top)


def _copies(row: TracedPhase) -> str:
    return ", ".join(
        f"{kind} {copies.bytes / 1e6:.3f} MB in {copies.ms:.3f} ms"
        for kind, copies in row.copies.items()
    )

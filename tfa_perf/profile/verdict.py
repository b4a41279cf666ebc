"""One line of advice on a profiled run, drawn from its measured phases alone."""

from __future__ import annotations

from typing import NamedTuple

from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.run_file import RunFile

__all__ = [
    "MODEL",
    "RULES",
    "Finding",
    "Rule",
    "findings",
    "replay_note",
    "share_of",
    "verdict",
]


class Rule(NamedTuple):
    """Advice for a run whose `phases` take at least the `share` of a step together."""

    name: str
    phases: tuple[str, ...]
    share: float
    advice: str
    on: str = "any"
    """``gpu`` or ``cpu`` where the advice holds on one alone."""


class Finding(NamedTuple):
    """A rule that fits a run's device, and the share of the step that its phases take."""

    rule: Rule
    share: float


# Of the rules that hold, the one with the longest phases speaks.
RULES = (
    Rule(
        "data wait",
        ("data_wait",),
        0.15,
        'try WindowLoader(device="cuda") for windows of a table, or more DataLoader workers '
        "(num_workers=..., persistent_workers=True, pin_memory=True)",
        "gpu",
    ),
    Rule(
        "data wait",
        ("data_wait",),
        0.15,
        "try WindowLoader for windows of a table, or more DataLoader workers (num_workers=..., "
        "persistent_workers=True) where cores are free",
        "cpu",
    ),
    Rule(
        "host to device",
        ("h2d",),
        0.10,
        'try WindowLoader(device="cuda"), which keeps the table there, or pin_memory=True with '
        ".to(device, non_blocking=True)",
    ),
    Rule(
        "loss read",
        ("loss_read",),
        0.10,
        "item() waits for the device; sum the loss there and read it every few dozen steps",
        "gpu",
    ),
    Rule(
        "device wait",
        ("device_wait",),
        0.10,
        "torch.cuda.synchronize() is called in the steps; without it the next step is prepared "
        "while the device works",
        "gpu",
    ),
    Rule("optimizer", ("optimizer",), 0.20, "try the optimizer's fused=True"),
    Rule("zero_grad", ("zero_grad",), 0.05, "try zero_grad(set_to_none=True), torch's default"),
    Rule("clipping", ("clip",), 0.10, "try clip_grad_norm_(..., foreach=True)"),
    Rule("logging", ("logging",), 0.05, "print or update the bar every few dozen steps"),
    Rule("checkpoints", ("checkpoint",), 0.10, "save less often"),
    Rule("validation", ("validation",), 0.30, "validate less often or on fewer windows"),
    Rule(
        "compiling",
        ("numba_compile", "torch_compile", "triton_compile"),
        0.05,
        "code still compiles in most steps; keep shapes and dtypes the same from step to step",
    ),
    Rule(
        "time in no phase",
        (OTHER,),
        0.30,
        'name its parts with `with tfa_perf.profile.phase("..."):` to see which',
    ),
)
# Said where no rule holds and these leave little to anything else.
MODEL = ("forward", "backward", "graph_replay")
_MODEL_SHARE = 0.80


def findings(run: RunFile) -> list[Finding]:
    """What each rule for the run's device finds, the largest share first.

    None without steps, nor where the device replays a captured step nearly all the time: what the
    host does meanwhile delays nothing.
    """
    if replay_note(run):
        return []
    device = "gpu" if "gpu" in run.machine else "cpu"
    found = [
        Finding(rule, share_of(run, rule.phases)) for rule in RULES if rule.on in ("any", device)
    ]
    return sorted((f for f in found if f.share), key=lambda finding: -finding.share)


def share_of(run: RunFile, phases: tuple[str, ...]) -> float:
    """The phases' part of the measured steps, 0 to 1; 0 where none were measured."""
    times = run.times
    if times is None or not times.measured_steps or not times.measured.wall_s:
        return 0.0
    return sum(times.measured.phases.get(phase, 0.0) for phase in phases) / times.measured.wall_s


def replay_note(run: RunFile) -> str:
    """That the device replays a captured step nearly all the time; empty where it does not."""
    times = run.times
    if times is None or times.device is None or not times.measured_steps:
        return ""
    busy = min(1.0, (times.device.ms_per_step("graph_replay") or 0.0) / times.ms_per_step)
    if busy < _MODEL_SHARE:
        return ""
    return (
        f"the device replays the captured step {100 * busy:.0f} % of the time: where the host "
        "waits, it waits for that, and the model itself is the time"
    )


def verdict(run: RunFile) -> str:
    """What dominates the run's steps and what to try; empty where nothing does."""
    busy = replay_note(run)
    if busy:
        return busy
    for rule, share in findings(run):
        if share >= rule.share:
            return f"{rule.name} {100 * share:.0f} % of the step: {rule.advice}"
    share = share_of(run, MODEL)
    if share < _MODEL_SHARE:
        return ""
    return (
        f"forward and backward {100 * share:.0f} % of the step: the model itself is the time, "
        "loading, copies and logging have little left to give"
    )

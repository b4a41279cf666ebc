"""One line of advice on a profiled run, drawn from its measured phases alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.run_file import RunFile

__all__ = ["RULES", "Rule", "verdict"]


class Rule(NamedTuple):
    """Advice for a run whose `phases` take at least the `share` of a step together."""

    name: str
    phases: tuple[str, ...]
    share: float
    advice: str
    on: str = "any"
    """``gpu`` or ``cpu`` where the advice holds on one alone."""


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
_MODEL = ("forward", "backward", "graph_replay")
_MODEL_SHARE = 0.80


def verdict(run: RunFile) -> str:
    """What dominates the run's steps and what to try; empty where nothing does."""
    times = run.times
    if times is None or not times.measured_steps or not times.measured.wall_s:
        return ""
    device = "gpu" if "gpu" in run.machine else "cpu"
    shares = {name: s / times.measured.wall_s for name, s in times.measured.phases.items()}
    holding = [
        rule
        for rule in RULES
        if rule.on in ("any", device) and _share(shares, rule.phases) >= rule.share
    ]
    if holding:
        rule = max(holding, key=lambda rule: _share(shares, rule.phases))
        share = 100 * _share(shares, rule.phases)
        return f"{rule.name} {share:.0f} % of the step: {rule.advice}"
    share = _share(shares, _MODEL)
    if share < _MODEL_SHARE:
        return ""
    return (
        f"forward and backward {100 * share:.0f} % of the step: the model itself is the time, "
        "loading, copies and logging have little left to give"
    )


def _share(shares: Mapping[str, float], phases: tuple[str, ...]) -> float:
    return sum(shares.get(phase, 0.0) for phase in phases)

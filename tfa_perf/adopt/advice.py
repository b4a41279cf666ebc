"""What each piece could save of a profiled run's step, at most."""

from __future__ import annotations

from dataclasses import dataclass

from tfa_perf.adopt.pieces import GRAPH, PIECES, Piece
from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.run_file import RunFile
from tfa_perf.profile.verdict import MODEL, findings, replay_note, share_of

__all__ = ["LEAST_SHARE", "Advice", "Report", "advise"]

# Less than that is not worth a change of code, nor told from what the machine does by itself.
LEAST_SHARE = 0.03


@dataclass(frozen=True)
class Advice:
    """One piece that would pay.

    ``share`` is the part of the step that it could take away, 0 to 1, and ``at_most`` how many
    times as fast the step would then be: 1 / (1 - share) (Amdahl, AFIPS 1967). ``phases`` were
    measured to take that share, in %.
    """

    piece: str
    phases: dict[str, float]
    share: float
    at_most: float
    lines: tuple[str, ...]
    example: str


@dataclass(frozen=True)
class Report:
    """The advice on a run, most first; none where nothing of ours would pay."""

    command: list[str]
    device: str
    measured_steps: int
    ms_per_step: float
    phases: dict[str, float]
    advice: tuple[Advice, ...]
    at_most_together: float
    note: str


def advise(run: RunFile) -> Report:
    """Judge the measured steps of ``run``, which has some."""
    times = run.times
    assert times is not None and times.measured_steps
    device = "gpu" if "gpu" in run.machine else "cpu"
    found = {finding.rule.name: finding for finding in findings(run)}
    advice = []
    for piece in PIECES:
        phases = {
            phase: share_of(run, (phase,))
            for name in piece.rules
            if name in found and piece.on in ("any", device)
            for phase in found[name].rule.phases
        }
        advice.append(_advice(piece, phases, sum(phases.values())))
    together = sum(each.share for each in advice if each.share >= LEAST_SHARE)
    advice.append(_graph(run))
    kept = sorted((a for a in advice if a.share >= LEAST_SHARE), key=lambda a: -a.share)
    return Report(
        run.command,
        device,
        times.measured_steps,
        round(times.ms_per_step, 3),
        {row.phase: round(100 * row.share, 1) for row in times.rows()},
        tuple(kept),
        _speedup(max([together, *(a.share for a in kept)])),
        _note(run),
    )


def _advice(piece: Piece, phases: dict[str, float], share: float) -> Advice:
    in_percent = {phase: round(100 * part, 1) for phase, part in phases.items() if part}
    return Advice(piece.name, in_percent, share, _speedup(share), piece.lines, piece.example)


def _graph(run: RunFile) -> Advice:
    """What the device idles while the host prepares kernels: a graph has none of it."""
    trace, times = run.gpu_trace, run.times
    assert times is not None
    busy = trace.busy_ms if trace is not None and not share_of(run, ("graph_replay",)) else None
    share = 0.0 if busy is None else max(0.0, 1 - busy / times.ms_per_step)
    return _advice(GRAPH, {"device idle": share}, share)


def _speedup(share: float) -> float:
    return round(1 / (1 - min(share, 0.999)), 2)


def _note(run: RunFile) -> str:
    busy = replay_note(run)
    if busy:
        return busy
    model, other = share_of(run, MODEL), share_of(run, (OTHER,))
    parts = [f"forward and backward are {100 * model:.0f} % of the step"] if model else []
    if other >= 0.1:
        parts.append(
            f"{100 * other:.0f} % is in no phase, and not judged: batches of a plain iterable are "
            'in it; name its parts with `with tfa_perf.profile.phase("data_wait"):`'
        )
    return "; ".join(parts)

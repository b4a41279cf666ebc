"""What was found about a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tfa_perf.claims.measure import Ratio
from tfa_perf.claims.paired import Comparison, covers_one
from tfa_perf.claims.table import claim
from tfa_perf.claims.verdict import (
    INVALID,
    NOT_MEASURED,
    Estimate,
    estimate_of,
    judge,
)

__all__ = ["Finding", "found", "from_json", "invalid", "not_measured", "percent", "to_json"]


@dataclass(frozen=True)
class Finding:
    """One measurement of one claim.

    ``variant`` says which side is compared with the report's code, ``workload`` on what,
    ``compared`` how the outputs of the two were compared. ``again`` is the A/A ratio. ``note``
    says why a verdict is INVALID or NOT MEASURED, or what else to know.
    """

    claim: str
    variant: str
    workload: str
    compared: str
    estimate: Estimate | None
    again: Ratio | None
    verdict: str
    note: str = ""
    before: float | None = None
    after: float | None = None
    unit: str = "s"

    @property
    def measured(self) -> str:
        """The estimate with its interval, in the claim's own terms."""
        if self.estimate is None:
            return "-"
        if claim(self.claim).kind == "speedup":
            e = self.estimate
            return f"{e.value:.2f}x [{e.low:.2f}, {e.high:.2f}]"
        value, low, high = (
            percent(x) for x in (self.estimate.value, self.estimate.low, self.estimate.high)
        )
        return f"{value} % [{low}, {high}]"


def percent(fraction: float) -> str:
    """A fraction as a percentage with as many digits as a small one needs."""
    return f"{100 * fraction:.2f}" if abs(fraction) < 0.01 else f"{100 * fraction:.1f}"


def found(
    id: str,
    variant: str,
    workload: str,
    compared: str,
    result: Comparison | tuple[Estimate, Ratio],
    *,
    note: str = "",
) -> Finding:
    """Judge a measurement. INVALID where its A/A does not cover 1."""
    about = claim(id)
    if isinstance(result, Comparison):
        estimate, again = estimate_of(result.ratio, about.kind), result.again
        seconds: tuple[float | None, float | None] = (result.before_s, result.after_s)
        if result.attempts > 1:
            note = f"{note}; " * bool(note) + "measured twice: the first A/A did not cover 1"
    else:
        (estimate, again), seconds = result, (None, None)
    finding = Finding(id, variant, workload, compared, estimate, again, "", note, *seconds)
    if not covers_one(again):
        return replace(finding, verdict=INVALID, note=f"A/A is {again}, which does not cover 1")
    return replace(finding, verdict=judge(estimate.low, estimate.high, about.low, about.high))


def invalid(id: str, variant: str, workload: str, why: str) -> Finding:
    return Finding(id, variant, workload, "they differ", None, None, INVALID, why)


def not_measured(id: str, variant: str, why: str) -> Finding:
    return Finding(id, variant, "-", "-", None, None, NOT_MEASURED, why)


def to_json(finding: Finding) -> dict[str, Any]:
    """Plain JSON, with the claim's wording and range; an open range has null for its end."""
    about = claim(finding.claim)
    return {
        **asdict(finding),
        "wording": about.wording,
        "kind": about.kind,
        "claimed": [about.low, about.high if math.isfinite(about.high) else None],
        "method": about.method,
        "measured": finding.measured,
    }


def from_json(data: Mapping[str, Any]) -> Finding:
    """A finding that `to_json` wrote."""
    fields = {name: data[name] for name in Finding.__dataclass_fields__}
    for name, kind in (("estimate", Estimate), ("again", Ratio)):
        if fields[name] is not None:
            fields[name] = kind(**fields[name])
    return Finding(**fields)

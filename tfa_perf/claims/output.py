"""The claims as a table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from tfa_perf.claims.finding import Finding, to_json
from tfa_perf.claims.implied import implied, implied_text
from tfa_perf.claims.table import Claim, claim

__all__ = ["claimed_range", "claims_json", "claims_markdown", "claims_table"]

LEGEND = (
    "Intervals are those of the median, 95 % or more, from balanced AB/BA pairs. CONFIRMED: inside "
    "the claimed range. AT LEAST: from inside it to above. EXCEEDED: above. REFUTED: below. "
    "INCONCLUSIVE: across its lower end. INVALID: A/A does not cover 1, or outputs differ. A "
    '"~40 %" stands for 35-45 %; a recommendation without a figure for "faster at all".'
)


def claimed_range(about: Claim) -> str:
    """The range of a claim as the report would write it."""
    if about.kind == "speedup":
        if math.isinf(about.high):
            return f">= {about.low:.0f}x"
        return f"{about.low:.0f}-{about.high:.0f}x"
    return f"{100 * about.low:.0f}-{100 * about.high:.0f} %"


def claims_table(findings: Sequence[Finding]) -> Table:
    """One row a finding."""
    table = Table(title="the report's claims", show_lines=True)
    for heading in ("claim", "claimed", "measured by", "measured [95 %]", "A/A", "verdict"):
        table.add_column(heading, overflow="fold")
    for f in findings:
        about = claim(f.claim)
        again = "-" if f.again is None else f"{f.again.low:.2f}-{f.again.high:.2f}"
        verdict = f.verdict if f.estimate is not None else f"{f.verdict}: {f.note}"
        # Text may hold brackets, which rich reads as markup.
        cells = (about.wording, claimed_range(about), f.variant, f.measured, again, verdict)
        table.add_row(*(cell.replace("[", "\\[") for cell in cells))
    return table


def claims_markdown(findings: Sequence[Finding], machine: Mapping[str, str]) -> str:
    """The table with workloads, what was compared and the machine."""
    lines = [
        "# The report's claims, measured",
        "",
        _markdown(implied_text()),
        "",
        _markdown("Machine: " + ", ".join(f"{k} {v}" for k, v in machine.items())),
        "",
        "![claims](claims.svg)",
        "",
        "| claim | claimed | measured by | measured [95 %] | verdict | workload | outputs | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in findings:
        about = claim(f.claim)
        cells = (
            about.wording,
            claimed_range(about),
            f.variant,
            f.measured,
            f.verdict,
            f.workload,
            f.compared,
            f.note or "-",
        )
        lines.append("| " + " | ".join(map(_markdown, cells)) + " |")
    return "\n".join([*lines, "", LEGEND, ""])


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, inside a table too."""
    for character in "\\`*_{}[]<>|#~$":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def claims_json(findings: Sequence[Finding], machine: Mapping[str, str]) -> str:
    """Everything, for `tfa-perf report` and for other programs."""
    together = implied()
    tree: dict[str, Any] = {
        "format": "tfa-perf claims",
        "version": 1,
        "machine": dict(machine),
        "implied": {
            "low": together.low,
            "high": together.high,
            "ceiling": together.ceiling,
            "text": implied_text(),
        },
        "findings": [to_json(f) for f in findings],
    }
    return json.dumps(tree, indent=1, allow_nan=False) + "\n"

"""The claims as a table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from tfa_perf.claims.finding import Finding, to_json
from tfa_perf.claims.implied import implied, implied_text
from tfa_perf.claims.table import Claim, claim

__all__ = [
    "claimed_range",
    "claims_json",
    "claims_markdown",
    "claims_rows",
    "claims_table",
    "escaped",
]

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
    """A row a claim, and below it one for each way in which it was measured; fits 80 columns."""
    table = Table(title="the report's claims")
    table.add_column("claim, and measured by", overflow="fold")
    table.add_column("claimed", no_wrap=True)
    table.add_column("measured [95 %]", min_width=15)
    for heading in ("A/A", "verdict"):
        table.add_column(heading, no_wrap=True)

    def add(*cells: str) -> None:
        # Text may hold brackets, which rich reads as markup.
        table.add_row(*(cell.replace("[", "\\[") for cell in cells))

    for id, mine in groupby(findings, key=lambda f: f.claim):
        about = claim(id)
        table.add_section()
        add(about.wording, claimed_range(about))
        for f in mine:
            add(f"- {f.variant}", "", f.measured, _again(f), f.verdict)
            if f.estimate is None and f.note:
                add(f"  {f.note}")
    return table


def _again(f: Finding) -> str:
    return "-" if f.again is None else f"{f.again.low:.2f}-{f.again.high:.2f}"


def claims_markdown(findings: Sequence[Finding], machine: Mapping[str, str]) -> str:
    """The page: the report's arithmetic, the machine, the chart and the table."""
    lines = [
        "# The report's claims, measured",
        "",
        escaped(implied_text()),
        "",
        escaped("Machine: " + ", ".join(f"{k} {v}" for k, v in machine.items())),
        "",
        "![claims](claims.svg)",
        "",
        *claims_rows(findings),
        "",
        LEGEND,
        "",
    ]
    return "\n".join(lines)


def claims_rows(findings: Sequence[Finding]) -> list[str]:
    """A Markdown table with workloads and what was compared, one row a finding."""
    lines = [
        "| claim | claimed | measured by | measured [95 %] | A/A | verdict | workload | outputs "
        "| note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for f in findings:
        about = claim(f.claim)
        cells = (
            about.wording,
            claimed_range(about),
            f.variant,
            f.measured,
            _again(f),
            f.verdict,
            f.workload,
            f.compared,
            f.note or "-",
        )
        lines.append("| " + " | ".join(map(escaped, cells)) + " |")
    return lines


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, inside a table too."""
    for character in "\\`*_{}[]<>|#~$":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def claims_json(
    findings: Sequence[Finding], machine: Mapping[str, str], *, date: str = "", quick: bool = False
) -> str:
    """Everything, for `tfa-perf report` and for other programs."""
    together = implied()
    tree: dict[str, Any] = {
        "format": "tfa-perf claims",
        "version": 1,
        "date": date,
        "quick": quick,
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

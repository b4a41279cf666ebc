"""The committed runs of ``tfa-perf claims`` and ``tfa-perf scaling`` as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tfa_perf.claims.finding import Finding, from_json
from tfa_perf.claims.implied import implied_text
from tfa_perf.claims.output import LEGEND, claimed_range, claims_rows, escaped
from tfa_perf.claims.table import CLAIMS
from tfa_perf.scaling.fit import Power
from tfa_perf.scaling.output import LEGEND as SCALING_LEGEND

__all__ = ["claims_page", "claims_summary", "scaling_page"]

_NONE = "No run is committed yet; CONTRIBUTING says which commands make one.\n"
# From a page in docs/.
_FIGURES = "figures"


def claims_summary(results: Path) -> str:
    """A row for each way in which a claim was measured, with what was found on each machine."""
    runs = [(tree, _findings(tree)) for _, tree in _runs(results, "claims")]
    if not runs:
        return _NONE
    headings = [
        "claim of the report",
        "claimed",
        "measured by",
        *(_short(tree) for tree, _ in runs),
    ]
    lines = [implied_text(), "", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for about in CLAIMS:
        ways = zip_longest(*([f for f in findings if f.claim == about.id] for _, findings in runs))
        said = (about.wording, claimed_range(about))
        for way in ways:
            cells = [*said, *_way(way)]
            lines.append(f"| {' | '.join(map(escaped, cells))} |")
            said = ("", "")
    return "\n".join(lines) + "\n"


def _way(findings: Sequence[Finding | None]) -> Iterator[str]:
    """How a claim was measured, and what was found; a machine where it was another way says so."""
    variant = next(f.variant for f in findings if f is not None)
    yield variant
    for f in findings:
        if f is None:
            yield "-"
            continue
        found = f"{f.measured} {f.verdict}".removeprefix("- ")
        yield found if f.variant == variant else f"{found} ({f.variant})"


def claims_page(results: Path) -> str:
    """Every finding on each machine, with its chart, workload and note."""
    lines: list[str] = []
    for name, tree in _runs(results, "claims"):
        lines += [f"## {_machine(tree)}", "", f"`tfa-perf claims`, {tree['date']}", ""]
        lines += [f"![claims]({_FIGURES}/claims/{name}/claims.svg)", ""]
        lines += [*claims_rows(_findings(tree)), ""]
    return "\n".join([implied_text(), "", *lines, LEGEND]) + "\n" if lines else _NONE


def scaling_page(results: Path) -> str:
    """The exponents of every sweep on each machine, and its plots."""
    lines: list[str] = []
    for name, tree in _runs(results, "scaling"):
        lines += [f"## {_machine(tree)}", "", f"`tfa-perf scaling`, {tree['date']}", ""]
        lines += [*_exponents(tree["sweeps"]), ""]
        for sweep in tree["sweeps"]:
            if sweep["plot"]:
                about = f"{sweep['work']} over {sweep['axis']}"
                lines.append(f"![{about}]({_FIGURES}/scaling/{name}/{sweep['plot']})")
        lines.append("")
    return "\n".join([SCALING_LEGEND, "", *lines]).rstrip() + "\n" if lines else _NONE


def _exponents(sweeps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| work | over | sizes | p before | p after | before/after, smallest | and largest |"
    yield "|---|---|---|---|---|---|---|"
    for sweep in sweeps:
        sizes = sorted({p["size"] for points in sweep["points"].values() for p in points})
        powers = [sweep["exponents"].get(side) for side in ("before", "after")]
        ratios = sweep["ratios"]
        cells = [
            f"{sweep['work']}: {sweep['fixed']}",
            sweep["axis"],
            f"{sizes[0]:,} to {sizes[-1]:,}" if sizes else "-",
            *(str(Power(**power)) if power else "-" for power in powers),
            *(_ratio(ratios[end]) if ratios else "-" for end in (0, -1)),
        ]
        yield f"| {' | '.join(cells)} |"


def _ratio(ratio: Mapping[str, Any]) -> str:
    interval = f"{ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return f"{interval} at {ratio['size']:,}"


def _runs(results: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of the committed runs, those without a GPU first."""
    trees = [
        (path.parent.name, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((results / kind).glob(f"*/{kind}.json"))
    ]
    yield from sorted(trees, key=lambda named: "gpu" in named[1]["machine"])


def _findings(tree: Mapping[str, Any]) -> list[Finding]:
    return [from_json(finding) for finding in tree["findings"]]


def _machine(tree: Mapping[str, Any]) -> str:
    machine = tree["machine"]
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    return (
        f"{gpu}{machine['cpu']} with {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}"
    )


def _short(tree: Mapping[str, Any]) -> str:
    machine = tree["machine"]
    return str(machine.get("gpu", f"{machine['cpu']}, {machine['cores']} cores"))

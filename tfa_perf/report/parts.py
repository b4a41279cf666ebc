"""What the results page shows of claims, sweeps and profiles, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfa_perf.claims.finding import Finding, from_json
from tfa_perf.claims.table import claim
from tfa_perf.report.errors import ReportError

__all__ = [
    "Claims",
    "Profile",
    "Scaling",
    "SweepPart",
    "read_claims",
    "read_profile",
    "read_scaling",
]


@dataclass(frozen=True)
class Claims:
    """Findings, the report's own arithmetic, the machine, and which command ran when."""

    findings: Sequence[Finding]
    implied: str
    machine: Mapping[str, str]
    made_by: str


@dataclass(frozen=True)
class SweepPart:
    """A sweep: its plot as SVG, and the rest as tfa_perf.scaling.output wrote it."""

    about: Mapping[str, Any]
    plot: str


@dataclass(frozen=True)
class Scaling:
    """Sweeps, the machine, and which command ran when."""

    sweeps: Sequence[SweepPart]
    machine: Mapping[str, str]
    made_by: str


@dataclass(frozen=True)
class Profile:
    """A flame graph page, which shows the phases too; the machine where run.json names it."""

    name: str
    flame: str
    machine: Mapping[str, str]


def read_claims(folder: Path) -> Claims:
    """What ``tfa-perf claims`` left in ``folder``. Raises ReportError where it did not."""
    path = folder / "claims.json"
    try:
        tree = _tree(path, "tfa-perf claims")
        findings = [from_json(found) for found in tree["findings"]]
        for found in findings:
            claim(found.claim)
        return Claims(findings, tree["implied"]["text"], dict(tree["machine"]), _made_by(tree))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, "tfa-perf claims", error) from error


def read_scaling(folder: Path) -> Scaling:
    """What ``tfa-perf scaling`` left in ``folder``. Raises ReportError where it did not."""
    path = folder / "scaling.json"
    try:
        tree = _tree(path, "tfa-perf scaling")
        sweeps = [
            SweepPart(about, _text(folder / Path(about["plot"]).name) if about["plot"] else "")
            for about in tree["sweeps"]
        ]
        return Scaling(sweeps, dict(tree["machine"]), _made_by(tree))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, "tfa-perf scaling", error) from error


def read_profile(folder: Path) -> Profile:
    """``flame.html`` of a profile or a demo, and ``run.json`` where there is one.

    Raises ReportError where there is no flame graph, or run.json is not one.
    """
    flame, path = _text(folder / "flame.html"), folder / "run.json"
    if not path.is_file():
        return Profile(folder.resolve().name, flame, {})
    try:
        tree = json.loads(_text(path))
        return Profile(str(tree["name"]), flame, {**tree["machine"], **tree["versions"]})
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, "tfa-perf profile", error) from error


def _tree(path: Path, kind: str) -> Any:
    tree = json.loads(_text(path))
    if tree["format"] != kind or tree["version"] != 1:
        raise ValueError(f"format {tree['format']!r}, version {tree['version']!r}")
    return tree


def _made_by(tree: Mapping[str, Any]) -> str:
    command, date = tree["format"], tree.get("date")
    return command + (" --quick" if tree.get("quick") else "") + (f", {date}" if date else "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error


def _unreadable(path: Path, command: str, error: Exception) -> ReportError:
    if isinstance(error, ReportError):
        return error
    why = f"{type(error).__name__}: {error}".splitlines()[0]
    return ReportError(f"{path}: is not what `{command}` of this version writes ({why})")

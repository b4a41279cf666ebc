"""Saved runs: what one holds beside pytest-benchmark's figures, and which one to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import fingerprint
from benchmarks.rounds import Row, median
from tfa_perf.claims.measure import Ratio

__all__ = ["KEY", "Kind", "is_elsewhere", "partner", "record", "rows_of", "title_of"]

# Of the part of a saved run that is ours.
KEY = "tfa_perf"
# pytest-benchmark looks for these in the root of the storage for every machine.
REFERENCES = "0000_reference*.json"


@dataclass(frozen=True)
class Kind:
    """What two runs must have in common to have the same test ids and the same work."""

    size: str
    one_side: bool

    def __str__(self) -> str:
        return f"--size {self.size}" + (", one side" if self.one_side else "")


def record(
    kind: Kind,
    impl: str,
    *,
    complete: bool,
    tests: Set[str],
    regressed: bool,
    rows: dict[tuple[str, str], Row],
    memory: dict[str, dict[str, list[dict[str, float]]]],
) -> dict[str, Any]:
    """What a saved run holds under ``KEY``: times in s, bytes and samples per second.

    ``complete`` is of the whole suite; ``tests`` are those that another run may be compared in.
    """
    return {
        **asdict(kind),
        "impl": impl,
        "complete": complete,
        "tests": sorted(tests),
        "regressed": regressed,
        "fingerprint": fingerprint(),
        "rows": [
            {
                "table": table,
                "name": name,
                "before_s": median(row.before) if row.before else None,
                "after_s": median(row.after) if row.after else None,
                "before": row.before,
                "after": row.after,
                "ratio": _dict(row.ratio),
                "floor": _dict(row.floor),
                "verdict": row.verdict,
                "samples_per_s": row.samples and row.samples / row.seconds,
                "bytes_per_s": row.moved and row.moved / row.seconds,
                "peak": row.peak,
                "peak_per_s": median(row.peak_per_s) if row.peak_per_s else None,
                "share_of_peak": row.share,
            }
            for (table, name), row in rows.items()
        ],
        "memory": memory,
    }


def _dict(ratio: Ratio | None) -> dict[str, float] | None:
    return None if ratio is None else asdict(ratio)


def rows_of(run: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of a saved run by table and name; none where pytest-benchmark alone wrote it."""
    return {(row["table"], row["name"]): row for row in run.get(KEY, {}).get("rows", ())}


def title_of(run: dict[str, Any]) -> str:
    """What tables call a saved run."""
    if is_elsewhere(run):
        return "reference (other machine)"
    impl = run[KEY]["impl"]
    return f"run of {run['datetime'][:16].replace('T', ' ')}" + (
        f", {impl}" if run[KEY]["one_side"] else ""
    )


def is_elsewhere(run: dict[str, Any]) -> bool:
    """Whether times of ``run`` say nothing about this machine."""
    return run.get(KEY, {}).get("fingerprint") != fingerprint()


def partner(
    storage: Path, shipped: Path, kind: Kind, selected: Set[str], *, elsewhere: bool
) -> Path | None:
    """The newest run of ``kind`` made here that holds what is selected; else a shipped reference.

    Parameters
    ----------
    storage : root of pytest-benchmark's storage.
    shipped : folder of the references that come with the repository.
    selected : node ids of the tests to compare.
    elsewhere : whether a run of another machine will do.

    A run in which something failed or was broken off, or that was slower than its own gate
    allowed, is none: the next run would be held against it. Where no run has all tests, as after
    one was added, the newest run of the whole suite is taken if it has some.
    """
    here = [
        (path, run)
        for path, run in _newest_first(storage.glob("*/[0-9][0-9][0-9][0-9]_*.json"), kind)
        if not run["regressed"] and run["fingerprint"] == fingerprint()
    ]
    for path, run in here:
        if selected and selected <= set(run.get("tests", ())):
            return path
    for path, run in here:
        if run["complete"] and not selected.isdisjoint(run.get("tests", ())):
            return path
    gpu = fingerprint()["gpu"]
    for path, run in _newest_first(shipped.glob(REFERENCES), kind):
        theirs = run["fingerprint"]
        if theirs == fingerprint():
            return path
        if elsewhere and (theirs["gpu"] == "none") == (gpu == "none"):
            return path
    return None


def _newest_first(paths: Iterable[Path], kind: Kind) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(paths, key=lambda path: path.name, reverse=True):
        run = _ours(path)
        if run is not None and Kind(run["size"], run["one_side"]) == kind:
            yield path.resolve(), run


def _ours(path: Path) -> dict[str, Any] | None:
    """Our part of a file; None where there is none, or the file was cut short."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))[KEY]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, dict) else None

"""Make a saved run one of those that ship with the repository.

    python -m benchmarks.reference .benchmarks/MACHINE/0001_....json cpu

writes ``benchmarks/results/cpu.json``, which ``python -m benchmarks.readme`` makes README's tables
from, and links to it as ``.benchmarks/0000_reference_cpu.json``: in the root of the storage
pytest-benchmark finds it on every machine, and its number keeps it the oldest. It has no single
times, and nothing that names a computer or a branch.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.saved import KEY
from tfa_perf.claims.files import write_whole

__all__ = ["RESULTS", "main", "reference"]

RESULTS = Path(__file__).resolve().parent / "results"
STORAGE = RESULTS.parents[1] / ".benchmarks"


def reference(run: dict[str, Any]) -> dict[str, Any]:
    """``run`` without single times, commit and names. Raises ValueError where it is not whole."""
    ours = run.get(KEY) or {}
    if not ours.get("complete") or ours["one_side"]:
        raise ValueError(
            "run: is not a complete run of both sides; make one with `pytest benchmarks`"
        )
    benchmarks = [
        {**bench, "stats": {k: v for k, v in bench["stats"].items() if k != "data"}}
        for bench in run["benchmarks"]
    ]
    rows = [{**row, "before": [], "after": []} for row in ours["rows"]]
    return {**run, "commit_info": {}, "benchmarks": benchmarks, KEY: {**ours, "rows": rows}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="JSON file of a saved run")
    parser.add_argument("name", help="what to call the machine, such as cpu")
    args = parser.parse_args()
    try:
        made = reference(json.loads(args.run.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{args.name}.json"
    write_whole(path, json.dumps(made, indent=1) + "\n")
    STORAGE.mkdir(exist_ok=True)
    link = STORAGE / f"0000_reference_{args.name}.json"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(path, STORAGE))
    print(f"{path}\n{link}\nnow: python -m benchmarks.readme")


if __name__ == "__main__":
    main()

"""Make the run that ships with the repository out of a saved one.

    python -m benchmarks.reference .benchmarks/MACHINE/0001_....json cpu

writes ``.benchmarks/0000_reference_cpu.json``. In the root of the storage pytest-benchmark finds it
on every machine, and its number keeps it the oldest. It has no single times, and nothing that
names a computer or a branch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.saved import KEY

__all__ = ["reference"]

STORAGE = Path(__file__).resolve().parents[1] / ".benchmarks"


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
    made = reference(json.loads(args.run.read_text(encoding="utf-8")))
    path = STORAGE / f"0000_reference_{args.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()

"""Make a run one of those that ship with the repository.

    python -m benchmarks.reference .benchmarks/MACHINE/0001_....json cpu
    python -m benchmarks.reference runs/claims cpu
    python -m benchmarks.reference runs/scaling cpu

A run of ``pytest benchmarks`` becomes ``benchmarks/results/cpu.json``, without single times and
without what names a computer or a branch. ``.benchmarks/0000_reference_cpu.json`` is a link to it:
in the root of the storage pytest-benchmark finds it on every machine, and its number keeps it the
oldest. Of a folder that ``tfa-perf claims`` or ``tfa-perf scaling`` wrote the JSON is copied to
``benchmarks/results/claims/cpu`` or ``benchmarks/results/scaling/cpu``, and the pictures to
``docs/figures/``, where the pages find them.

``python -m benchmarks.readme`` then makes the tables of README and docs/ from them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.saved import KEY
from tfa_perf.claims.files import write_whole
from tfa_perf.claims.table import CLAIMS

__all__ = ["RESULTS", "main", "publish", "reference"]

KINDS = ("claims", "scaling")
RESULTS = Path(__file__).resolve().parent / "results"
STORAGE = RESULTS.parents[1] / ".benchmarks"
FIGURES = RESULTS.parents[1] / "docs" / "figures"


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


def publish(folder: Path, name: str) -> Path:
    """Copy a run of ``tfa-perf claims`` or ``tfa-perf scaling`` to its place; returns that.

    Raises ValueError where ``folder`` holds none, or a quick one, or one of some claims alone.
    """
    for kind in KINDS:
        if (folder / f"{kind}.json").is_file():
            break
    else:
        raise ValueError(
            f"{folder}: holds no claims.json or scaling.json; give a folder that `tfa-perf claims` "
            "or `tfa-perf scaling` wrote"
        )
    content = (folder / f"{kind}.json").read_text(encoding="utf-8")
    tree = json.loads(content)
    if tree.get("quick", True):
        raise ValueError(f"{folder}: is a run with --quick; run `tfa-perf {kind}` without it")
    left_out = {claim.id for claim in CLAIMS} - {f["claim"] for f in tree.get("findings", ())}
    if kind == "claims" and left_out:
        raise ValueError(f"{folder}: lacks {', '.join(sorted(left_out))}; run it without --only")
    target, figures = RESULTS / kind / name, FIGURES / kind / name
    for made in (target, figures):
        made.mkdir(parents=True, exist_ok=True)
    for old in figures.glob("*.svg"):
        old.unlink()
    for picture in folder.glob("*.svg"):
        write_whole(figures / picture.name, picture.read_text(encoding="utf-8"))
    write_whole(target / f"{kind}.json", content)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, help="JSON file of a saved run, or folder of claims or scaling"
    )
    parser.add_argument("name", help="what to call the machine, such as cpu")
    args = parser.parse_args()
    if args.run.is_dir():
        try:
            print(f"{publish(args.run, args.name)}\nnow: python -m benchmarks.readme")
        except (OSError, ValueError) as error:
            parser.error(str(error))
        return
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

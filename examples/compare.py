"""Before and after of each example: ``python -m examples.compare plain_loop``, or ``all``.

Both sides run in turn in this process, after a first run of each whose outputs are compared.
``--write`` puts the diffs, and the figures of this run, into README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import logging
import os
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from examples import data
from tfa_perf.claims.measure import Ratio, interleave, paired_ratio

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"


class Example(NamedTuple):
    """``run`` is the function of either script; it takes what ``prepare(make(rows))`` gives.

    ``settled`` rows at the start are not compared: there an exponential mean remembers its seed,
    which libraries choose differently.
    """

    title: str
    run: str
    make: Callable[[int], Any]
    rows: int
    tiny: int
    settled: int = 0
    frame: str = ""


EXAMPLES = {
    "plain_loop": Example("Plain loop, the report's SeqWindows", "train", data.table, 20_000, 300),
    "dataloader": Example("Stock DataLoader", "train", data.table, 20_000, 300),
    "lightning_trainer": Example("Lightning", "train", data.table, 20_000, 300),
    "huggingface": Example(
        "Hugging Face Trainer, a small transformer", "train", data.table, 2_500, 300
    ),
    "accelerate_loop": Example("Accelerate", "train", data.table, 20_000, 300),
    "pandas_features": Example(
        "pandas features", "features", data.columns, 200_000, 1_200, 1_000, "pandas"
    ),
    "polars_features": Example(
        "polars features", "features", data.columns, 200_000, 1_200, 1_000, "polars"
    ),
    "live_bars": Example("Live bars, one at a time", "scores", data.live_bars, 1_100, 1_005),
}


class Result(NamedTuple):
    """Median seconds of a run of either side, and how many times as long the stock one takes."""

    name: str
    stock_s: float
    ours_s: float
    ratio: Ratio


def diff(name: str) -> list[str]:
    """The lines that go (``-``) and come (``+``) from the stock script to ours."""
    stock, ours = (
        (FOLDER / name / f"{side}.py").read_text(encoding="utf-8").splitlines()
        for side in ("stock", "ours")
    )
    return [line for line in difflib.ndiff(stock, ours) if line[:2] in ("- ", "+ ")]


def checked(name: str, *, tiny: bool = False) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Run either side once, compare the outputs, and give the two back: stock, ours.

    Raises
    ------
    AssertionError : the outputs differ by more than rounding.
    """
    example = EXAMPLES[name]
    made = example.make(example.tiny if tiny else example.rows)
    if example.frame:
        made = importlib.import_module(example.frame).DataFrame(made)
    arguments = made if isinstance(made, tuple) else (made,)

    def side(which: str) -> Callable[[], Any]:
        run = getattr(importlib.import_module(f"examples.{name}.{which}"), example.run)
        return lambda: run(*arguments)

    stock, ours = side("stock"), side("ours")
    found, wanted = np.asarray(ours()), np.asarray(stock())
    assert found.shape == wanted.shape and len(found) > example.settled
    np.testing.assert_allclose(
        found[example.settled :], wanted[example.settled :], rtol=1e-3, atol=1e-4
    )
    return stock, ours


def compare(name: str, pairs: int) -> Result:
    """Run both sides in turn, once they are `checked`."""
    before, after = interleave(*checked(name), pairs)
    return Result(
        name, statistics.median(before), statistics.median(after), paired_ratio(before, after)
    )


def table(results: Sequence[Result]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| example | stock ms | ours ms | stock/ours [95 %] | ours is |",
        "|---|---:|---:|---:|---|",
    ]
    return lines + [
        f"| {EXAMPLES[r.name].title} | {1e3 * r.stock_s:.1f} | {1e3 * r.ours_s:.1f} | {r.ratio} "
        f"| {r.ratio.verdict} |"
        for r in results
    ]


def section(name: str, lines: Sequence[str], text: str) -> str:
    """``text`` with what is between the markers of ``name`` replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    head, rest = text.split(begin)
    return head + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.split(end)[1]


def diffs() -> list[str]:
    """Every example with its diff, as Markdown."""
    lines: list[str] = []
    for name, example in EXAMPLES.items():
        lines += ["", f"### {example.title}", "", f"`{name}/`", "", "```diff", *diff(name), "```"]
    return lines[1:]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.compare", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(EXAMPLES)} or all")
    parser.add_argument("--pairs", type=int, default=10, help="timed runs of either (default 10)")
    parser.add_argument(
        "--check", action="store_true", help="compare the outputs on a few rows, without timing"
    )
    parser.add_argument("--write", action="store_true", help="write README.md (figures with all)")
    options = parser.parse_args(argv)
    names = list(EXAMPLES) if options.names == ["all"] else options.names
    for name in names:
        if name not in EXAMPLES:
            parser.error(f"{name!r} is no example; there are {', '.join(EXAMPLES)}")
    if options.pairs < 6:
        parser.error(f"{options.pairs} pairs have no 95 % interval; give 6 or more")
    _be_quiet()
    results = []
    for name in names:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            if options.check:
                checked(name, tiny=True)
            else:
                results.append(compare(name, options.pairs))
        if options.check:
            print(f"{name}: both sides give the same")
    if results:
        print("\n".join(table(results)))
    if options.write:
        text = section("diffs", diffs(), README.read_text(encoding="utf-8"))
        if len(results) == len(EXAMPLES):
            text = section("figures", [_machine(), "", *table(results)], text)
        README.write_text(text, encoding="utf-8")
    return 0


def _be_quiet() -> None:
    """Trainers' own advice on workers and logging is not of this table."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def _machine() -> str:
    import torch

    return (
        f"torch {torch.__version__} on CPU, {torch.get_num_threads()} threads: "
        "`python -m examples.compare all`"
    )


if __name__ == "__main__":
    raise SystemExit(main())

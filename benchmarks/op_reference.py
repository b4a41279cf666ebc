"""Write docs/ops.md from the registry: ``python -m benchmarks.op_reference``."""

from __future__ import annotations

from pathlib import Path

from tfa_kernels import formulas
from tfa_kernels.formulas import FORMULAS
from tfa_kernels.ops import CONVENTIONS, OPS
from tfa_perf.claims.files import write_whole

__all__ = ["PAGE", "op_reference"]

# A line of a table ends its cells at a bar, also between backticks.
ESCAPED = "\\|"
PAGE = Path(__file__).parents[1] / "docs" / "ops.md"


def op_reference() -> str:
    """Markdown with a row for each op of the registry."""
    lines = [
        "# Op reference",
        "",
        "Made by `python -m benchmarks.op_reference`, do not edit. The definitions, written out",
        "row by row, are in `tfa_kernels.reference`.",
        "",
        "## What each op computes",
        "",
        _about(),
        "",
        '| op | formula | where "legacy" differs |',
        "|---|---|---|",
        *(
            f"| {name} | `{FORMULAS[name][0].replace('|', ESCAPED)}` | {FORMULAS[name][1] or '-'} |"
            for name in OPS
        ),
        "",
        "## Keys, inputs and first values",
        "",
        "The first row with a value is counted from 0, for the default keys; before it `legacy`",
        "holds 0 and `talib` NaN. An op whose start decays is never quite free of where a series",
        "begins.",
        "",
        "| op | keys and defaults | reads | first row, legacy | first row, talib | start |",
        "|---|---|---|---:|---:|---|",
    ]
    for name, op in OPS.items():
        window = () if op.window is None else (("window", op.window),)
        keys = ", ".join(f"{key} {value:g}" for key, value in (*window, *op.params)) or "-"
        values = tuple(float(value) for _, value in op.params)
        first = [op.lookback(each, op.window or 0, values) for each in CONVENTIONS]
        reads = ", ".join(op.inputs) or "source"
        lines.append(f"| {name} | {keys} | {reads} | {first[0]} | {first[1]} | {op.dependence} |")
    return "\n".join(lines) + "\n"


def _about() -> str:
    """What the symbols mean: the second paragraph of the formulas' own description."""
    text = (formulas.__doc__ or "").split("\n\n")[1].strip()
    return text.replace("``", "`").replace('"', "`")


if __name__ == "__main__":
    write_whole(PAGE, op_reference())

"""Write the tables of README and docs/ from the runs in ``benchmarks/results/``.

python -m benchmarks.readme            # replace what is between the markers
python -m benchmarks.readme --check    # exit 1 where a page is not what the runs say
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.reference import RESULTS
from benchmarks.verdicts import claims_page, claims_summary, scaling_page
from tfa_perf.claims.files import write_whole
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.report.benchmark import (
    BENCHMARK_HEADINGS,
    MEMORY_HEADINGS,
    BenchmarkRun,
    read_benchmark,
)

__all__ = [
    "PAGES",
    "README",
    "SECTIONS",
    "before_and_after",
    "gpu_attention",
    "gpu_steps",
    "markers",
    "others",
    "replaced",
]

ROOT = RESULTS.parents[1]
README = ROOT / "README.md"
_RATIO_ONLY = 6


def markers(section: str) -> tuple[str, str]:
    """The lines that a section of a page stands between."""
    return (
        f"<!-- {section}: made by `python -m benchmarks.readme`, do not edit -->",
        f"<!-- end of {section} -->",
    )


def before_and_after(results: Path) -> str:
    """Markdown of the bottlenecks of every run in the folder, those without a GPU first.

    Raises ReportError where a file is no run of both sides.
    """
    return _of_each_run(results, _bottlenecks)


def others(results: Path) -> str:
    """Markdown of what else was timed beside ours in those runs, and of memory."""
    return _of_each_run(results, _others)


def _of_each_run(results: Path, make: Callable[[BenchmarkRun], Iterator[str]]) -> str:
    runs = [read_benchmark(path) for path in sorted(results.glob("*.json"))]
    runs.sort(key=lambda run: run.machine["gpu"] != "none")
    lines = [line for run in runs for line in (_where(run), "", *make(run))]
    return "\n".join(lines).rstrip() + "\n"


def _where(run: BenchmarkRun) -> str:
    machine = run.machine
    gpu = "" if machine["gpu"] == "none" else f"{machine['gpu']}, "
    option = "" if run.size == "default" else f" --size {run.size}"
    return (
        f"{gpu}{machine['cpu']} with {machine['cores']} cores, {machine['torch threads']} threads, "
        f"torch {machine['torch']}, {run.day}: `pytest benchmarks{option}`"
    )


def _bottlenecks(run: BenchmarkRun) -> Iterator[str]:
    yield from _markdown(BENCHMARK_HEADINGS, run.table("bottleneck"))


def _others(run: BenchmarkRun) -> Iterator[str]:
    headings = ("work", "other", "ours", "other/ours [95 %]", "A/A", "ours is")
    yield from _markdown(headings, [row[:_RATIO_ONLY] for row in run.table("other")])
    yield from _markdown(MEMORY_HEADINGS, run.memory_table())


def gpu_steps(results: Path) -> str:
    """Markdown of the steps that ``python -m benchmarks.gpu_step`` timed, a file for each GPU."""
    parts = []
    for path in sorted((results / "steps").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"{run['device']}, torch {run['torch']}: `python -m benchmarks.gpu_step`", ""]
        parts += _markdown(("config", "step", "ms", "report as written / this [95 %]"), _steps(run))
    return "\n".join(parts).rstrip() + "\n"


def _steps(run: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    as_written = run["ms"]["report: as written"]
    for name, times in run["ms"].items():
        config, _, way = name.partition(": ")
        yield config, way, f"{median(times):.2f}", str(paired_ratio(as_written, times))


def gpu_attention(results: Path) -> str:
    """Markdown of what ``python -m benchmarks.attention_table`` timed, a file for each GPU."""
    parts = []
    for path in sorted((results / "attention").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        times = {(s["kind"], s["rows"], s["width"]): s["ms"] for s in run["sizes"]}
        # Columns as they were timed: by what is asked for and by width of a head.
        columns = list(dict.fromkeys((kind, width) for kind, _, width in times))
        headings = ("rows", *(f"{kind}, head {width}" for kind, width in columns))
        parts += [f"{run['device']}, torch {run['torch']}: `python -m benchmarks.attention_table`"]
        table = [
            (str(rows), *(_over_ours(times.get((kind, rows, width))) for kind, width in columns))
            for rows in dict.fromkeys(rows for _, rows, _ in times)
        ]
        parts += ["", *_markdown(headings, table)]
    return "\n".join(parts).rstrip() + "\n"


def _over_ours(times: Sequence[tuple[float, float]] | None) -> str:
    if times is None:
        return "torch's"
    ours, others = zip(*times, strict=True)
    return str(paired_ratio(others, ours))


SECTIONS: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {
        "before and after": before_and_after,
        "verdicts": claims_summary,
    },
    "results.md": {"others": others, "GPU steps": gpu_steps, "GPU attention": gpu_attention},
    "claims.md": {"claims": claims_page},
    "scaling.md": {"scaling": scaling_page},
}
PAGES = [README, *(ROOT / "docs" / name for name in SECTIONS if name != README.name)]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(headings)} |"
    yield "|---|" + "---:|" * (len(headings) - 1)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def replaced(text: str, section: str, made: str) -> str:
    """``text`` with ``made`` between the section's markers.

    Raises ValueError unless there is one pair.
    """
    begin, end = markers(section)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"one line {begin!r} and, below it, one line {end!r} are needed")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{made}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument(
        "pages", nargs="*", type=Path, help=f"{', '.join(SECTIONS)}, anywhere (default: our own)"
    )
    args = parser.parse_args()
    unknown = [str(page) for page in args.pages if page.name not in SECTIONS]
    if unknown:
        parser.error(
            f"{', '.join(unknown)}: no page of ours is called so, {', '.join(SECTIONS)} are"
        )
    return max(_page(page, check=args.check) for page in args.pages or PAGES)


def _page(page: Path, *, check: bool) -> int:
    """Write a page, or compare it; the exit status."""
    try:
        text = page.read_text(encoding="utf-8")
        wanted = text
        for section, make in SECTIONS[page.name].items():
            wanted = replaced(wanted, section, make(RESULTS))
    except (OSError, ValueError) as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 2
    if check and wanted != text:
        print(
            f"{page}: the tables are not what {RESULTS.name}/ says; "
            "run `python -m benchmarks.readme`",
            file=sys.stderr,
        )
        return 1
    if not check:
        write_whole(page, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())

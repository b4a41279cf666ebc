"""The results page: benchmarks, claims, scaling, flame graphs, environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tfa_perf import __version__
from tfa_perf.claims.chart import claims_chart
from tfa_perf.claims.finding import Finding
from tfa_perf.claims.output import LEGEND as CLAIMS_LEGEND
from tfa_perf.claims.output import claimed_range
from tfa_perf.claims.table import claim
from tfa_perf.report.benchmark import BENCHMARK_HEADINGS, MEMORY_HEADINGS, BenchmarkRun
from tfa_perf.report.html import Html, badge, definitions, frame, picture, table, text
from tfa_perf.report.parts import Claims, Profile, Scaling, SweepPart
from tfa_perf.report.style import STYLE

__all__ = ["results_page"]

_TITLE = "tfa-perf: results"
_SECTIONS = {
    "benchmarks": "Before and after",
    "claims": "The report's claims",
    "scaling": "Cost as work grows",
    "profiles": "Where the time goes",
    "environment": "Environment",
}
_VERDICT = BENCHMARK_HEADINGS.index("after is")


def results_page(
    benchmark: BenchmarkRun | None,
    claims: Claims | None,
    scaling: Scaling | None,
    profiles: Sequence[Profile],
) -> str:
    """One HTML page that needs nothing but itself; None and no profiles are parts left out."""
    bodies = {
        "benchmarks": _benchmarks(benchmark) if benchmark else [_missing("pytest benchmarks")],
        "claims": _claims(claims) if claims else [_missing("tfa-perf claims")],
        "scaling": _scaling(scaling) if scaling else [_missing("tfa-perf scaling")],
        "profiles": (
            [part for profile in profiles for part in _profile(profile)]
            or [_missing("tfa-perf demo", "tfa-perf profile -- train.py")]
        ),
        "environment": _environment(benchmark, claims, scaling, profiles),
    }
    links = "".join(f'<a href="#{id}">{text(title)}</a>' for id, title in _SECTIONS.items())
    sections = "".join(
        f'<section id="{id}"><h2>{text(_SECTIONS[id])}</h2>{"".join(parts)}</section>\n'
        for id, parts in bodies.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_TITLE}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{_TITLE}</h1><p class=dim>tfa-perf {__version__}; every figure is from a run, whose "
        "machine is named below. Ratios above 1 are gains, losses stay.</p>"
        f"<nav>{links}</nav>\n{sections}</body></html>\n"
    )


def _missing(*commands: str) -> Html:
    made_by = " or ".join(f"<code>{text(command)}</code>" for command in commands)
    return Html(f"<p class=missing>Not here. {made_by} makes it.</p>")


def _paragraph(content: str) -> Html:
    return Html(f"<p>{text(content)}</p>")


def _benchmarks(run: BenchmarkRun) -> Iterator[Html]:
    yield _paragraph(
        f"pytest benchmarks, size {run.size}, {run.day}. Medians; ratio of rounds in turn; A/A is "
        "a side against itself, and a difference is claimed where the two intervals are apart."
    )
    yield table(BENCHMARK_HEADINGS, [_with_badge(row) for row in run.table("bottleneck")])
    memory = run.memory_table()
    if memory:
        yield Html("<h3>Peak memory of fresh processes, above that of the inputs</h3>")
        yield table(MEMORY_HEADINGS, memory)
    others = run.table("other")
    if others:
        headings = [
            h.replace("before", "other").replace("after", "ours") for h in BENCHMARK_HEADINGS
        ]
        rows = table(headings, [_with_badge(row) for row in others])
        yield Html(f"<details><summary>Others and ours ({len(others)})</summary>{rows}</details>")


def _with_badge(row: Sequence[str]) -> list[str]:
    return [badge(cell) if column == _VERDICT else cell for column, cell in enumerate(row)]


def _claims(claims: Claims) -> Iterator[Html]:
    yield _paragraph(f"{claims.made_by}. {claims.implied}")
    counts = Counter(found.verdict for found in claims.findings)
    yield Html(
        "<div class=counts>"
        + "".join(badge(verdict, f"{count} {verdict}") for verdict, count in counts.most_common())
        + "</div>"
    )
    headings = ("claim", "claimed", "measured [95 %]", "verdict", "on", "outputs")
    yield table(headings, [_claim_row(found) for found in claims.findings])
    chart = picture(claims_chart(claims.findings, "claimed ranges and measured intervals"), "chart")
    sideways = "<p class=sideways>Wider than this screen: scroll it sideways.</p>"
    yield Html(
        f"<details><summary>Chart</summary>{sideways}<div class=wide>{chart}</div></details>"
    )
    yield Html(f"<p class=dim>{text(CLAIMS_LEGEND)}</p>")


def _claim_row(found: Finding) -> list[str]:
    about = claim(found.claim)
    note = f"<br><span class=dim>{text(found.note)}</span>" if found.note else ""
    return [
        Html(f"{text(about.wording)}<br><span class=dim>{text(found.variant)}</span>"),
        claimed_range(about),
        found.measured,
        badge(found.verdict),
        Html(f"<span class=dim>{text(found.workload)}</span>"),
        Html(f"<span><span class=dim>{text(found.compared)}</span>{note}</span>"),
    ]


def _scaling(scaling: Scaling) -> Iterator[Html]:
    yield _paragraph(
        f"{scaling.made_by}. Medians with 95 % intervals; the exponent of a line is the slope of a "
        "least-squares fit through the logarithms, its interval in brackets."
    )
    plots = "".join(_figure(sweep) for sweep in scaling.sweeps if sweep.plot)
    yield Html(f"<div class=plots>{plots}</div>")
    left = [
        f"<li>{text(sweep.about['work'])} over {text(sweep.about['axis'])}, "
        f"{left['size']:,} {text(left['side'])}: {text(left['why'])}</li>"
        for sweep in scaling.sweeps
        for left in sweep.about["left_out"]
    ]
    if left:
        yield Html(
            f"<details><summary>Left out ({len(left)})</summary><ul>{''.join(left)}</ul></details>"
        )


def _figure(sweep: SweepPart) -> Html:
    name = f"{sweep.about['work']} over {sweep.about['axis']}"
    image, fixed = picture(sweep.plot, name), text(sweep.about["fixed"])
    return Html(f"<figure>{image}<figcaption>{fixed}</figcaption></figure>")


def _profile(profile: Profile) -> Iterator[Html]:
    yield Html(f"<h3>{text(profile.name)}</h3>")
    yield frame(profile.flame, f"flame graph of {profile.name}")


def _environment(
    benchmark: BenchmarkRun | None,
    claims: Claims | None,
    scaling: Scaling | None,
    profiles: Sequence[Profile],
) -> list[Html]:
    machines: dict[str, Mapping[str, str]] = {
        "Before and after": benchmark.machine if benchmark else {},
        "Claims": claims.machine if claims else {},
        "Scaling": scaling.machine if scaling else {},
        **{f"Profile {profile.name}": profile.machine for profile in profiles},
    }
    shown = [
        Html(f"<div><h3>{text(part)}</h3>{definitions(machine)}</div>")
        for part, machine in machines.items()
        if machine
    ]
    if not shown:
        return [_paragraph("No run is shown.")]
    return [Html(f"<div class=plots>{''.join(shown)}</div>")]

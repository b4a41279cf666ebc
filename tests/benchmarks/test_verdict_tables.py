"""Runs of ``tfa-perf claims`` and ``tfa-perf scaling`` as they are committed and shown."""

import json
import sys

import pytest

from benchmarks import reference
from benchmarks.verdicts import claims_page, claims_summary, scaling_page
from tfa_perf.claims.finding import found, not_measured
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.output import claims_json
from tfa_perf.claims.paired import Comparison
from tfa_perf.claims.table import CLAIMS
from tfa_perf.scaling.output import scaling_json
from tfa_perf.scaling.sweep import Point, Sweep, Swept

CPU = {"cpu": "A CPU", "cores": "2", "threads": "2", "torch": "2.13"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(reference, "FIGURES", tmp_path / "figures")
    return tmp_path / "results"


def claims(folder, ratio, machine=CPU, leave_out=(), planet="Mars", **about):
    """What `tfa-perf claims` would write, each claim with one ratio and one reason."""
    folder.mkdir(exist_ok=True)
    even = paired_ratio([1.0] * 6, [1.0] * 6)
    comparison = Comparison(paired_ratio([ratio] * 6, [1.0] * 6), even, ratio, 1.0)
    findings = [
        finding
        for claim in CLAIMS
        if claim.id not in leave_out
        for finding in (
            found(claim.id, "ours | theirs", "a table", "equal", comparison),
            not_measured(claim.id, f"on {planet}", "no rocket"),
        )
    ]
    text = claims_json(findings, machine, date="2026-01-02", **about)
    (folder / "claims.json").write_text(text)
    (folder / "claims.svg").write_text("<svg/>")
    return folder


def test_claims_are_committed_and_shown_machine_by_machine(results, tmp_path):
    assert "No run is committed" in claims_summary(results)
    gpu = {**CPU, "gpu": "A GPU"}
    reference.publish(claims(tmp_path / "gpu", 2.0, gpu, planet="Venus"), "a-gpu")
    reference.publish(claims(tmp_path / "cpu", 4.0), "cpu")
    summary = claims_summary(results)
    assert "1.75x to 2.63x" in summary
    rows = [line for line in summary.splitlines() if line.startswith("|")]
    assert rows[0] == "| claim of the report | claimed | measured by | A CPU, 2 cores | A GPU |"
    assert len(rows) == 2 * len(CLAIMS) + 2
    (at,) = [number for number, row in enumerate(rows) if "3-5x faster" in row]
    assert rows[at] == (
        r"| 3-5x faster training | 3-5x | ours \| theirs | 4.00x \[4.00, 4.00\] CONFIRMED "
        r"| 2.00x \[2.00, 2.00\] REFUTED |"
    )
    assert rows[at + 1] == "|  |  | on Mars | NOT MEASURED | NOT MEASURED (on Venus) |"
    page = claims_page(results)
    assert page.index("## A CPU with 2 cores") < page.index("## A GPU, A CPU with 2 cores")
    assert "2026-01-02" in page and "ours \\| theirs" in page and "no rocket" in page
    assert "(figures/claims/a-gpu/claims.svg)" in page
    assert (reference.FIGURES / "claims/a-gpu/claims.svg").is_file()


def test_a_run_that_is_quick_or_not_whole_is_not_committed(results, tmp_path):
    with pytest.raises(ValueError, match="--quick"):
        reference.publish(claims(tmp_path / "quick", 4.0, quick=True), "cpu")
    with pytest.raises(ValueError, match=r"lacks total; .* without --only"):
        reference.publish(claims(tmp_path / "part", 4.0, leave_out=["total"]), "cpu")
    with pytest.raises(ValueError, match=r"holds no claims\.json"):
        reference.publish(tmp_path, "cpu")
    assert not results.exists()


def scaling(folder):
    folder.mkdir(exist_ok=True)
    points = {
        side: [Point(n, cost * n, cost * n, cost * n, 0.97, 6) for n in (10, 100, 1000)]
        for side, cost in (("before", 2e-3), ("after", 1e-3))
    }
    sweep = Sweep("gather-N", "gather", "N", (10, 100, 1000), "F 55", dict, print)
    ratios = {n: paired_ratio([2.0] * 6, [1.0] * 6) for n in (10, 1000)}
    (folder / "gather-N.svg").write_text("<svg/>")
    text = scaling_json([Swept(sweep, points, ratios)], CPU, date="2026-01-02")
    (folder / "scaling.json").write_text(text)
    return folder


def test_scaling_is_committed_with_its_plots_and_shown(results, tmp_path, monkeypatch, capsys):
    assert "No run is committed" in scaling_page(results)
    folder = scaling(tmp_path / "scaling")
    stale = reference.FIGURES / "scaling/cpu/gone-N.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("<svg/>")
    monkeypatch.setattr(sys, "argv", ["reference", str(folder), "cpu"])
    reference.main()
    assert "python -m benchmarks.readme" in capsys.readouterr().out
    assert not stale.exists()
    page = scaling_page(results)
    two = "2.00x [2.00, 2.00]"
    assert (
        f"| gather: F 55 | N | 10 to 1,000 | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] "
        f"| {two} at 10 | {two} at 1,000 |"
    ) in page
    assert "![gather over N](figures/scaling/cpu/gather-N.svg)" in page
    assert json.loads((results / "scaling/cpu/scaling.json").read_text())["date"] == "2026-01-02"

import io
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from rich.console import Console

from tfa_perf.claims.chart import claims_chart
from tfa_perf.claims.finding import found, not_measured
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.output import claims_json, claims_markdown, claims_table
from tfa_perf.claims.paired import Comparison
from tfa_perf.claims.table import CLAIMS
from tfa_perf.svg import log_ticks

HOSTILE = '</text><script>alert(1)</script>|[x](y)"&'


@pytest.fixture
def findings():
    even = paired_ratio([1.0] * 6, [1.0] * 6)
    all_of_them = [
        found(about.id, "v", "w", "c", Comparison(paired_ratio([r] * 6, [1.0] * 6), even, r, 1.0))
        for about in CLAIMS
        for r in (0.01, 3.0)
    ]
    return [replace(f, variant=HOSTILE, workload=HOSTILE) for f in all_of_them]


def test_chart_is_well_formed_and_text_stays_text(findings):
    picture = claims_chart([*findings, not_measured("total", HOSTILE, HOSTILE)], HOSTILE)
    root = ET.fromstring(picture)
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "NOT MEASURED" in picture and "<script" not in picture
    for element in root.iter():
        for name in ("x", "x1", "x2"):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= 960


def test_markdown_has_a_row_a_finding_and_no_cell_more(findings):
    page = claims_markdown(findings, {"cpu": HOSTILE})
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == len(findings) + 1
    assert {row.replace("\\|", "").count("|") for row in rows} == {10}
    assert "<script" not in page.replace("\\<", "")


def test_json_is_strict_and_open_ranges_are_null(findings):
    tree = json.loads(claims_json(findings, {}), parse_constant=pytest.fail)
    claimed = {f["claim"]: f["claimed"] for f in tree["findings"]}
    assert claimed["window"] == [1.0, None] and claimed["total"] == [3.0, 5.0]
    assert tree["implied"]["ceiling"] == pytest.approx(1 / 0.22)


def test_table_fits_80_columns_and_takes_text_with_brackets(findings):
    missing = not_measured("early-stopping", HOSTILE, "no such [device]")
    table = claims_table([*findings, missing])
    assert table.row_count == len(CLAIMS) + len(findings) + 2
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in text.getvalue()
    assert sum("EXCEEDED" in line for line in lines) == sum(
        f.verdict == "EXCEEDED" for f in findings
    )
    assert "no such [device]" in " ".join(text.getvalue().replace("│", " ").split())


def test_log_ticks():
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(0.9, 10) == [1, 2, 5, 10]
    assert all(math.isclose(t, 10 ** round(math.log10(t))) for t in log_ticks(1e-6, 1e3))


def run(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "tfa_perf", "claims", *args],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )


def test_the_command_measures_and_writes(tmp_path):
    only = ("--only", "data-loading", "memory-map", "--bars", "synthetic:600", "--quick")
    done = run(*only, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1.75x to 2.63x" in " ".join(done.stdout.split())
    tree = json.loads((tmp_path / "out/claims.json").read_text())
    assert tree["quick"] and tree["date"] and {"cpu", "torch", "python"} <= tree["machine"].keys()
    assert [f["claim"] for f in tree["findings"]] == ["data-loading", "memory-map", "memory-map"]
    for f in tree["findings"]:
        assert f["estimate"]["low"] <= f["estimate"]["value"] <= f["estimate"]["high"]
        assert f["estimate"]["coverage"] >= 0.95 and f["before"] > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "claims.json",
        "claims.md",
        "claims.svg",
    ]


def test_bad_input_is_one_line(tmp_path):
    done = run("--bars", "none.csv", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "none.csv" in done.stderr
    done = run("--only", "horoscope", cwd=tmp_path)
    assert done.returncode == 2 and "horoscope" in done.stderr

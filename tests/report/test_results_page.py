"""``tfa-perf report`` on files that the real commands write."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tfa_perf import cli
from tfa_perf.claims.finding import found, not_measured
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.output import claims_json
from tfa_perf.claims.paired import Comparison
from tfa_perf.profile.flame import MAIN, Stack
from tfa_perf.profile.page import Run, write_page
from tfa_perf.profile.steps import PhaseRow
from tfa_perf.scaling.output import scaling_json
from tfa_perf.scaling.plot import sweep_plot
from tfa_perf.scaling.sweep import Point, Sweep, Swept

ROOT = Path(__file__).resolve().parents[2]
CPU_RUN = ROOT / "benchmarks/results/cpu.json"
HOSTILE = '</td></script><script src="https://example.org/x.js">alert(1)</script>"&'
SECTIONS = ("benchmarks", "claims", "scaling", "profiles", "environment")


@pytest.fixture
def parts(tmp_path):
    """Folders as the commands leave them, with text that tries to break out."""
    claims, scaling, profile = (tmp_path / name for name in ("claims", "scaling", "profile"))
    for folder in (claims, scaling, profile):
        folder.mkdir()
    even = paired_ratio([1.0] * 6, [1.0] * 6)
    comparison = Comparison(paired_ratio([9.0] * 6, [1.0] * 6), even, 9.0, 1.0)
    findings = [
        found("total", HOSTILE, HOSTILE, "equal", comparison),
        not_measured("memory", "v", HOSTILE),
    ]
    (claims / "claims.json").write_text(claims_json(findings, {"cpu": "claims' cpu"}))
    points = {"after": [Point(n, n * 1e-3, n * 0.9e-3, n * 1.1e-3, 0.97, 6) for n in (1, 10, 100)]}
    sweep = Sweep("gather-N", "gather", "N", (1, 10, 100), HOSTILE, dict, print)
    swept = Swept(sweep, points)
    (scaling / "scaling.json").write_text(
        scaling_json([swept], {"cpu": "scaling's cpu"}, date="2026-01-02", quick=True)
    )
    (scaling / "gather-N.svg").write_text(sweep_plot(swept))
    rows = [PhaseRow("forward", 3.0, 1.0, 1.0, 1.0)]
    stacks = [Stack(MAIN, ("forward", "f (a.py:1)"), 0.01)] * 50
    write_page(profile / "flame.html", [Run("stock", stacks, 9, 4.0, rows, "x")], "flames")
    run = {"name": HOSTILE, "machine": {"cpu": "profile's cpu"}, "versions": {"torch": "2.0"}}
    (profile / "run.json").write_text(json.dumps(run))
    return tmp_path


def report(cwd, *args):
    return subprocess.run(
        [sys.executable, "-m", "tfa_perf", "report", *map(str, args)],
        cwd=cwd, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip


def everything(parts):
    return (
        *("--claims", parts / "claims", "--scaling", parts / "scaling"),
        *("--profile", parts / "profile", "--benchmark", CPU_RUN),
    )


class Page(HTMLParser):
    """Tags with their attributes, text by the section it is in, and pages inside the page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.inner, self.text, self._section = [], [], {}, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "section":
            self._section = attrs.get("id", "")
        if "srcdoc" in attrs:
            self.inner.append(attrs["srcdoc"])

    def handle_data(self, data):
        self.text[self._section] = self.text.get(self._section, "") + data


def outside(page):
    """References out of a page that a browser would follow by itself."""
    return [
        value
        for tag, attrs in page.tags
        for name, value in attrs.items()
        if name in {"src", "href", "data", "poster", "srcset"}
        and not value.startswith(("data:", "#"))
    ]


def test_every_part_is_on_the_page_and_nothing_is_outside_of_it(parts):
    done = report(parts, *everything(parts), "--out", "new/page.html")
    assert done.returncode == 0, done.stderr
    text = (parts / "new/page.html").read_text()
    page = Page(text)
    assert list(page.text)[1:] == list(SECTIONS)
    assert "feature building" in page.text["benchmarks"]
    assert "faster" in page.text["benchmarks"] and "slower" in page.text["benchmarks"]
    assert "9.00x [9.00, 9.00]" in page.text["claims"] and "EXCEEDED" in page.text["claims"]
    assert "NOT MEASURED" in page.text["claims"]
    assert "tfa-perf claims. By the report's" in page.text["claims"]
    assert "tfa-perf scaling --quick, 2026-01-02. Medians" in page.text["scaling"]
    assert HOSTILE in page.text["claims"] and HOSTILE in page.text["scaling"]
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 and all(src.startswith("data:image/svg+xml;base64,") for src in images)
    assert HOSTILE in page.text["profiles"]
    (flame,) = page.inner
    assert flame == (parts / "profile/flame.html").read_text()
    own = json.loads(CPU_RUN.read_text())["machine_info"]["cpu"]["brand_raw"]
    for part in (own, "claims' cpu", "scaling's cpu", "profile's cpu"):
        assert part in page.text["environment"]
    assert outside(page) == [] and outside(Page(flame)) == []
    assert not any(tag in {"script", "link"} for tag, _ in page.tags)
    assert not re.search(r"@import|url\(", text.split("</style>")[0])
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    (sandbox,) = [attrs["sandbox"] for tag, attrs in page.tags if tag == "iframe"]
    assert sandbox == "allow-scripts"


def test_parts_that_are_not_there_are_named_with_the_command_that_makes_them(tmp_path):
    done = report(tmp_path)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "report.html").read_text())
    commands = ("pytest benchmarks", "tfa-perf claims", "tfa-perf scaling", "tfa-perf demo")
    for section, command in zip(SECTIONS, commands, strict=False):
        assert f"Not here. {command}" in page.text[section]


def test_what_lies_at_its_usual_place_is_found(parts):
    runs = parts / "runs"
    for name, place in (("claims", "claims"), ("scaling", "scaling"), ("profile", "demo")):
        shutil.copytree(parts / name, runs / place)
    (parts / ".benchmarks").mkdir()
    shutil.copy(CPU_RUN, parts / ".benchmarks/0000_reference_cpu.json")
    assert report(parts).returncode == 0
    assert "Not here" not in (parts / "report.html").read_text()


@pytest.mark.parametrize(
    ("option", "file", "content"),
    [
        ("--claims", "claims.json", None),
        ("--claims", "claims.json", "{"),
        ("--claims", "claims.json", '{"format": "tfa-perf claims", "version": 2}'),
        ("--scaling", "scaling.json", "[]"),
        ("--scaling", "gather-N.svg", None),
        ("--profile", "flame.html", None),
        ("--profile", "run.json", "{}"),
        ("--benchmark", "run.json", "{}"),
        ("--benchmark", "run.json", '{"tfa_perf": null}'),
    ],
)
def test_a_part_that_was_asked_for_and_cannot_be_read_is_one_line(
    parts, monkeypatch, capsys, option, file, content
):
    folder = parts / {"--benchmark": "profile"}.get(option, option[2:])
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    (parts / "report.html").write_text("an older page")
    monkeypatch.chdir(parts)
    status = cli.main(["report", option, str(folder / file if option == "--benchmark" else folder)])
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1 and file in error, error
    assert (parts / "report.html").read_text() == "an older page"

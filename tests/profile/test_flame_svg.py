from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.flame_svg import write_svg
from tfa_perf.profile.run import Run
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import Stack
from tfa_perf.profile.steps import PhaseRow

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [PhaseRow("forward", 3.0, 0.75, 1.0, 0.7), PhaseRow("other", 1.0, 0.25, 0.0, 0.3)]
STACKS = [
    Stack(MAIN, ("forward", "train (a.py:1)", "Net.forward (b.py:7)"), 0.7),
    Stack(MAIN, ("other", "train (a.py:1)"), 0.3),
]


def groups(path: Path) -> list[tuple[str, float, float, str]]:
    """Tooltip, left edge, width and label of each box."""
    found = []
    for group in ElementTree.parse(path).getroot().iter(f"{SVG}g"):
        title, rect, text = (group.find(SVG + tag) for tag in ("title", "rect", "text"))
        if title is not None and rect is not None:
            label = "" if text is None else text.text or ""
            x, width = float(rect.attrib["x"]), float(rect.attrib["width"])
            found.append((title.text or "", x, width, label))
    return found


def test_boxes_are_as_wide_as_their_time(tmp_path: Path) -> None:
    path = write_svg(tmp_path / "f.svg", Run("run", STACKS, 9, 4.0, ROWS, rate=100), 1024)
    found = {note.split("\n")[0]: (x, width) for note, x, width, _ in groups(path)}
    assert found["run (4.00 ms/step)"] == (0, 1000)
    assert found["forward 70.0 % (2.80 ms/step)"] == (0, 700)
    assert found["Net.forward (b.py:7)"] == (0, 700)
    assert found["other 30.0 % (1.20 ms/step)"] == (700, 300)
    assert any(note.endswith("70.0 % · 2.800 ms/step · 70 samples") for note, *_ in groups(path))
    text = path.read_text()
    assert "forward 75.0 % (3.00 ms/step)" in text  # the legend, by the timers
    assert not re.search("script|href|url|import", text)
    assert list(tmp_path.iterdir()) == [path]


def test_without_stacks_the_phases_are_drawn(tmp_path: Path) -> None:
    found = groups(write_svg(tmp_path / "f.svg", Run("run", [], 9, 4.0, ROWS), 1024))
    assert [label for *_, label in found][1:] == [
        "forward 75.0 % (3.00 ms/step)",
        "other 25.0 % (1.00 ms/step)",
    ]


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(found=st.lists(st.lists(names, min_size=1, max_size=40).map(tuple), max_size=6), label=names)
def test_any_names_make_a_well_formed_picture_whose_labels_fit(
    found: list[tuple[str, ...]], label: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stacks = [Stack(MAIN, frames, 1.0) for frames in found]
    rows = [PhaseRow(label, 4.0, 1.0, 1.0, 1.0)]
    path = write_svg(tmp_path_factory.mktemp("s") / "f.svg", Run(label, stacks, 9, 4.0, rows), 400)
    for _, x, width, text in groups(path):
        assert x + width <= 376.2
        assert len(text) * 6.7 <= max(width - 8, 0) + 0.1


def test_a_width_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width is 100; give at least 200"):
        write_svg(tmp_path / "f.svg", Run("run", STACKS, 9, 4.0, ROWS, rate=100), 100)


def test_labels_fit_their_boxes_in_the_browser(browser: Any, tmp_path: Path) -> None:
    deep = [f"{'wide' * (i % 7)}Function{i} (module/file{i}.py:{i})" for i in range(12)]
    stacks = [Stack(MAIN, ("forward", *deep[:n]), 1.0) for n in range(1, 12)]
    svg = write_svg(tmp_path / "f.svg", Run("run", [*STACKS, *stacks], 9, 4.0, ROWS)).read_text()
    page = tmp_path / "p.html"
    page.write_text(f'<div id="flame"><i class="slice"></i></div>{svg}')
    browser.open(page, 1400)
    outside = browser.run(
        "[...document.querySelectorAll('svg g > title')].map(t => t.parentElement).filter(g => "
        "g.querySelector('text') && g.querySelector('text').getBBox().width > "
        "g.querySelector('rect').getBBox().width).map(g => g.textContent)"
    )
    assert outside == []

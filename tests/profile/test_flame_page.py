from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.icicle import Chart, busy_threads, main_chart, thread_charts
from tfa_perf.profile.page import write_page
from tfa_perf.profile.palette import change_colour, phase_colour
from tfa_perf.profile.run import Run
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import OUTSIDE_STEPS, Stack
from tfa_perf.profile.steps import PhaseRow

ROWS = [
    PhaseRow("forward", 3.0, 0.75, 1.0, 0.7),
    PhaseRow("<evil & co>", 0.5, 0.125, 1.0, None),
    PhaseRow("other", 0.5, 0.125, 0.0, 0.3),
]
STACKS = [
    *[Stack(MAIN, ("forward", "train (a.py:1)", "<module> (b.py)"), 0.01)] * 70,
    *[Stack(MAIN, ("other", "train (a.py:1)"), 0.01)] * 30,
    *[Stack(MAIN, (OUTSIDE_STEPS, "other", "import"), 0.01)] * 500,
    *[Stack("idle", ("thread: idle", "wait"), 0.01)] * 600,
    *[Stack("busy", ("thread: busy", f"f{i % 3}"), 0.01) for i in range(600)],
]
RUN = Run("run", STACKS, 9, 4.0, ROWS, rate=100)


def test_page_needs_no_network_and_escapes_names(tmp_path: Path) -> None:
    stacks = [*STACKS, Stack(MAIN, ("forward", "</script><script>alert(1)</script>"), 0.5)]
    run = Run("a <b>", stacks, 9, 4.0, ROWS, "x < y", note="n < m")
    path = write_page(tmp_path / "p.html", [run], "t & <u>")
    page = path.read_text()
    for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.replace("\\", "")):
        assert not re.search(r"(?:src|href)\s*=", tag), tag
    assert "<title>t &amp; &lt;u&gt;</title>" in page
    assert "&lt;evil &amp; co&gt;" in page
    assert "<evil" not in page
    assert "a &lt;b&gt;" in page
    assert "n &lt; m" in page
    assert "<script>alert" not in page
    assert list(tmp_path.iterdir()) == [path]


def test_no_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        write_page(tmp_path / "p.html", [])


def widths(chart: Chart) -> dict[str, int]:
    return dict(zip(chart.names, chart.values, strict=True))


def test_widths_are_time_per_step() -> None:
    slow, fast = Run("before", STACKS[:100], 9, 6.0, ROWS), Run("after", STACKS[:100], 9, 2.0, ROWS)
    found = widths(main_chart([slow, fast]))
    assert found["before (6.00 ms/step)"] == 3 * found["after (2.00 ms/step)"] == 6_000_000
    assert found["forward 70.0 % (4.20 ms/step)"] == 4_200_000
    assert found["other 30.0 % (0.60 ms/step)"] == pytest.approx(600_000, abs=5)
    assert found["one step of each"] == 8_000_000


def test_start_up_is_left_out_and_busy_threads_have_roots_of_their_own() -> None:
    found = widths(main_chart([RUN]))
    assert found["forward 70.0 % (2.80 ms/step)"] == 2_800_000
    assert not any("import" in name or "thread" in name for name in found)
    assert set(busy_threads(STACKS)) == {"busy"}
    (chart,) = thread_charts(RUN)
    assert chart.title == "thread: busy"
    assert widths(chart)["thread: busy (6.00 s of the run)"] == pytest.approx(6e9)
    assert chart.notes[1] == "33.3 % of busy · 2.00 s of the run"


def test_notes_say_share_time_and_samples() -> None:
    chart = main_chart([RUN])
    note = chart.notes[chart.names.index("<module> (b.py)")]
    assert note == "70.0 % · 2.800 ms/step · 70 samples"


def test_without_stacks_the_phases_alone_are_shown() -> None:
    chart = main_chart([Run("run", [], 0, 4.0, ROWS)])
    assert widths(chart)["forward 75.0 % (3.00 ms)"] == 3_000_000
    assert chart.notes[1] == "75.0 % · 3.000 ms"


frames = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(tuple)


@given(
    st.lists(st.tuples(frames, st.floats(1e-5, 9)), min_size=1, max_size=60), st.floats(1e-3, 1e4)
)
def test_children_never_outgrow_their_parent(pairs: list[tuple], ms: float) -> None:
    # plotly draws nothing at all otherwise.
    chart = main_chart([Run(n, [Stack(MAIN, f, w) for f, w in pairs], 3, ms, []) for n in "xy"])
    below: dict[int, int] = {}
    for place, (parent, value) in enumerate(zip(chart.parents, chart.values, strict=True)):
        assert parent < place
        below[parent] = below.get(parent, 0) + value
    for place, value in enumerate(chart.values):
        assert below.get(place, 0) <= value
    assert chart.parents.count(-1) == 1


def test_a_stack_deeper_than_python_may_recurse_is_drawn(tmp_path: Path) -> None:
    deep = [Stack(MAIN, ("forward", *(f"f{i}" for i in range(3000))), 1.0)]
    chart = main_chart([Run("run", deep, 9, 4.0, ROWS)])
    assert len(chart.names) == 3002
    assert write_page(tmp_path / "p.html", [Run("run", deep, 9, 4.0, ROWS)]).exists()


def test_phase_colours_are_stable_and_distinct() -> None:
    assert phase_colour("forward") == phase_colour("forward") != phase_colour("backward")
    assert phase_colour("mine", 0.0) != phase_colour("mine", 1.0)
    r, g, b = (int(phase_colour("other")[i : i + 2], 16) for i in (1, 3, 5))
    assert r == g == b


def test_what_grew_is_red_and_what_shrank_is_blue() -> None:
    def channels(change: float) -> list[int]:
        return [int(change_colour(change)[i : i + 2], 16) for i in (1, 3, 5)]

    assert len(set(channels(0.0))) == 1
    reds, blues = channels(0.5), channels(-0.5)
    assert reds[0] > max(reds[1:])
    assert blues[2] > max(blues[:2])
    assert channels(9.0) == channels(1.0) != channels(0.3)


def test_a_click_zooms_and_the_bar_on_top_goes_back(browser: Any, tmp_path: Path) -> None:
    page = write_page(tmp_path / "p.html", [RUN])
    browser.open(page, 1000)
    whole = browser.boxes()
    assert whole["forward 70.0 % (2.80 ms/step)"] == pytest.approx(0.7 * 968, rel=0.03)
    assert "other 30.0 % (1.20 ms/step)" in whole
    browser.click("forward")
    browser.wait("!document.querySelector('#flame').textContent.includes('other 30')")
    info = "document.getElementById('info').textContent"
    assert browser.run(info) == (
        "forward 70.0 % (2.80 ms/step): 70.0 % · 2.800 ms/step · 70 samples"
    )
    browser.wait("[...document.querySelectorAll('.slice')].some(s => s.textContent.startsWith("
                 "'train') && s.getBoundingClientRect().width > 900)")  # fmt: skip
    # While it still zooms, plotly takes no click: as often as it needs.
    browser.wait(
        "(document.querySelector('#flame .pathbar')?.dispatchEvent(new MouseEvent('click')), "
        "document.querySelector('#flame').textContent.includes('other 30'))"
    )
    assert browser.run(info).startswith("Width is time")


def test_search_marks_frames_and_says_their_share(browser: Any, tmp_path: Path) -> None:
    nested = Stack(MAIN, ("forward", "train (a.py:1)", "train_one (a.py:9)"), 1.0)
    browser.open(write_page(tmp_path / "p.html", [replace(RUN, stacks=[*STACKS, nested])]), 1000)

    def find(text: str) -> str:
        browser.run(f"$('find').value = {text!r}; $('find').oninput(); 1")
        browser.wait("timer")
        browser.run("clearTimeout(timer), refresh()")
        return str(browser.run("$('found').textContent"))

    # train_one is part of a train: its time counts once.
    assert find("TRAIN") == "3 frames: 100.0 %, 4.000 ms/step"
    assert find("train_one") == "1 frame: 50.0 %, 2.000 ms/step"
    fills = browser.run(
        "[...document.querySelectorAll('#flame .slice')].filter(s => getComputedStyle("
        "s.querySelector('path')).fill === 'rgb(240, 106, 214)').map(s => s.textContent)"
    )
    assert fills == ["train_one (a.py:9)"]
    assert find("nowhere") == "0 frames: 0.0 %, 0.000 ms/step"
    assert find("") == ""


def test_names_are_text_in_the_browser(browser: Any, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=document.title=1>&amp;<b>b</b>"
    stacks = [Stack(MAIN, ("forward", evil), 1.0)]
    run = Run(evil, stacks, 9, 4.0, [PhaseRow(evil, 4.0, 1.0, 1.0, 0.5)], evil, note=evil)
    browser.open(write_page(tmp_path / "p.html", [run], evil), 1400)
    assert browser.run("document.title") == evil
    assert browser.run("document.querySelectorAll('img, #flame b').length") == 0
    assert evil in browser.boxes()


def test_selector_shows_one_run_at_a_time_the_slowest_first(browser: Any, tmp_path: Path) -> None:
    # Rank 2 takes longest, waiting in backward for rank 1.
    waits = [PhaseRow("backward", 8.0, 0.8, 1.0, 0.8), PhaseRow("other", 2.0, 0.2, 0.0, 0.2)]
    runs = [
        replace(RUN, label="rank 0", ms_per_step=4.0),
        replace(RUN, label="rank 1", ms_per_step=9.0),
        replace(RUN, label="rank 2", ms_per_step=10.0, rows=waits),
    ]
    browser.open(write_page(tmp_path / "p.html", runs, selector=True), 390)
    assert browser.run("[...$('run').options].map(o => o.text)") == [
        "rank 1: 9.00 ms/step (slowest)",
        "rank 0: 4.00 ms/step",
        "rank 2: 10.00 ms/step",
    ]
    shown = "[...document.querySelectorAll('section')].filter(s => !s.hidden).map(s => s.innerText)"
    (text,) = browser.run(shown)
    assert text.startswith("rank 1: 9.00 ms/step")
    assert browser.run("document.querySelector('.slowest').innerText").startswith("rank 1 (slow")
    browser.run("$('run').value = 2; $('run').onchange()")
    browser.wait("document.querySelector('#flame').textContent.includes('rank 2 (10.00 ms/step)')")
    (text,) = browser.run(shown)
    assert text.startswith("rank 2: 10.00 ms/step")
    browser.run("$('root').value = 1; $('root').onchange()")
    browser.wait("document.querySelector('#flame').textContent.includes('thread: busy')")
    assert browser.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [390, 1400])
def test_page_fits_its_window(width: int, browser: Any, tmp_path: Path) -> None:
    pages = [write_page(tmp_path / "1.html", [RUN]), write_page(tmp_path / "2.html", [RUN, RUN])]
    for page in pages:
        browser.open(page, width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelector('#flame svg').clientWidth") <= width

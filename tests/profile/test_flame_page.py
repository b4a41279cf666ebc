from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.flame import MAIN, OUTSIDE_STEPS, Stack
from tfa_perf.profile.page import Run, _icicle, busy_threads, phase_colour, write_page
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


def test_page_needs_no_network_and_escapes_names(tmp_path: Path) -> None:
    path = write_page(tmp_path / "p.html", [Run("a <b>", STACKS, 9, 4.0, ROWS, "x < y")], "t & <u>")
    page = path.read_text()
    for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.replace("\\", "")):
        assert not re.search(r"(?:src|href)\s*=", tag), tag
    assert "<title>t &amp; &lt;u&gt;</title>" in page
    assert "&lt;evil &amp; co&gt;" in page
    assert "<evil" not in page
    assert "a &lt;b&gt;" in page
    assert list(tmp_path.iterdir()) == [path]


def test_no_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        write_page(tmp_path / "p.html", [])


def widths(runs: list[Run]) -> dict[str, int]:
    plot = _icicle(runs)
    return dict(zip(plot.labels, plot.values, strict=True))


def test_widths_are_time_per_step() -> None:
    slow, fast = Run("before", STACKS[:100], 9, 6.0, ROWS), Run("after", STACKS[:100], 9, 2.0, ROWS)
    found = widths([slow, fast])
    assert found["before (6.00 ms/step)"] == 3 * found["after (2.00 ms/step)"] == 6_000_000
    assert found["forward (4.20 ms/step)"] == 4_200_000
    assert found["other (0.60 ms/step)"] == pytest.approx(600_000, abs=5)
    assert found["one step of each"] == 8_000_000


def test_start_up_and_idle_threads_do_not_widen_the_step() -> None:
    found = widths([Run("run", STACKS, 9, 4.0, ROWS)])
    assert found["forward (2.80 ms/step)"] == 2_800_000
    assert found["other threads"] == pytest.approx(200_000, abs=5)
    assert {s.thread for s in busy_threads(STACKS)} == {"busy"}
    assert not any("import" in label or "idle" in label for label in found)


def test_without_stacks_the_phases_alone_are_shown() -> None:
    found = widths([Run("run", [], 0, 4.0, ROWS)])
    assert found["forward (3.00 ms)"] == 3_000_000


frames = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(tuple)


@given(
    st.lists(st.tuples(frames, st.floats(1e-5, 9)), min_size=1, max_size=60), st.floats(1e-3, 1e4)
)
def test_children_never_outgrow_their_parent(pairs: list[tuple], ms: float) -> None:
    # plotly draws nothing at all otherwise.
    plot = _icicle([Run(n, [Stack(MAIN, f, w) for f, w in pairs], 3, ms, []) for n in "xy"])
    below: dict[str, int] = {}
    for parent, value in zip(plot.parents, plot.values, strict=True):
        below[parent] = below.get(parent, 0) + value
    for index, value in enumerate(plot.values):
        assert below.get(str(index), 0) <= value
    assert plot.parents.count("") == 1


def test_phase_colours_are_stable_and_distinct() -> None:
    assert phase_colour("forward") == phase_colour("forward") != phase_colour("backward")
    assert phase_colour("mine", 0.0) != phase_colour("mine", 1.0)
    r, g, b = (int(phase_colour("other")[i : i + 2], 16) for i in (1, 3, 5))
    assert r == g == b

"""Every example runs on either side with the same output, and differs in ten lines at most."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.compare import EXAMPLES, README, checked, diff, diffs, main, section

ROOT = Path(__file__).parents[2]


def test_every_folder_is_compared() -> None:
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/*.py")}
    assert folders == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_our_side_changes_ten_lines_at_most(name: str) -> None:
    changed = diff(name)
    assert 1 < len(changed) <= 10
    assert any("tfa_" in line for line in changed if line.startswith("+ "))


def test_readme_shows_the_diffs() -> None:
    """Else: python -m examples.compare --write."""
    text = README.read_text(encoding="utf-8")
    assert section("diffs", diffs(), text) == text


def test_both_sides_of_all_run_and_agree() -> None:
    for library in ("lightning", "transformers", "accelerate", "pandas"):
        pytest.importorskip(library)
    # One process for all: most of the time is their imports.
    done = subprocess.run(
        [sys.executable, "-m", "examples.compare", "all", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: both sides give the same" for name in EXAMPLES]


def test_sides_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    from examples.pandas_features import ours

    right = ours.features
    monkeypatch.setattr(ours, "features", lambda bars: right(bars) * 1.01)
    with pytest.raises(AssertionError):
        checked("pandas_features", tiny=True)


def test_before_and_after_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    assert main(["pandas_features", "--pairs", "6"]) == 0
    *_, row = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"\| pandas features \| [\d.]+ \| [\d.]+ \| [\d.]+x \[[\d.]+, [\d.]+\] \| [a-z ]+ \|", row
    )


def test_an_unknown_example_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plane_loop"])
    assert "'plane_loop' is no example; there are plain_loop" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plain_loop", "--pairs", "5"])
    assert "give 6 or more" in capsys.readouterr().err

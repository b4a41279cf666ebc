"""Every example runs on either side with the same output, and differs in ten lines at most."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.compare import EXAMPLES, README, compare, diff, diffs, main, section

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
        [sys.executable, "-m", "examples.compare", "all", "--tiny", "--pairs", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines()[2:]]
    assert rows == [example.title for example in EXAMPLES.values()]


def test_sides_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    from examples.pandas_features import ours

    right = ours.features
    monkeypatch.setattr(ours, "features", lambda bars: right(bars) * 1.01)
    with pytest.raises(AssertionError):
        compare("pandas_features", pairs=1, tiny=True)


def test_an_unknown_example_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plane_loop"])
    assert "'plane_loop' is no example; there are plain_loop" in capsys.readouterr().err

"""README's tables are what the committed runs say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.readme import README, SECTIONS, main, markers, replaced
from benchmarks.reference import RESULTS
from tfa_perf.report.benchmark import newest_run, read_benchmark

ROOT = Path(__file__).resolve().parents[2]


def python(*args, cwd):
    parts = [str(cwd), str(ROOT), str(ROOT / "kernels")]
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(parts)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def readme(monkeypatch, capsys):
    """``python -m benchmarks.readme ARGS``, in this process: its exit code and its errors."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["readme", *map(str, args)])
        return main(), capsys.readouterr().err

    return run


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copy(README, tmp_path))


def test_pages_say_what_the_runs_say(readme):
    assert readme("--check") == (0, "")


def test_an_edited_figure_is_found_and_mended(copied, readme):
    text = copied.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| feature building |"))
    copied.write_text(text.replace(row, row.replace("faster", "much faster")))
    code, errors = readme("--check", copied)
    assert code == 1
    assert "python -m benchmarks.readme" in errors
    assert "much faster" in copied.read_text(), "--check writes nothing"
    assert readme(copied)[0] == 0
    assert copied.read_text() == text


def test_text_around_the_markers_stays(copied, readme):
    (begin, end), (second, last) = map(markers, SECTIONS[README.name])
    between = f"{end}\nbetween\n{second}\n"
    copied.write_text(f"above\n{begin}\nold\n{between}old\n{last}\nbelow\n")
    assert readme(copied)[0] == 0
    text = copied.read_text()
    assert text.startswith(f"above\n{begin}\n") and text.endswith(f"{last}\nbelow\n")
    assert between in text and "old\n" not in text
    assert "window loading" in text


BEGIN, END = markers("x")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_one_pair_of_markers_is_needed(text):
    with pytest.raises(ValueError, match="are needed"):
        replaced(text, "x", "made")


def test_a_saved_run_becomes_the_reference_and_a_table(measured):
    (run,) = measured.runs
    (measured.folder / "docs").mkdir()
    for page, sections in SECTIONS.items():
        lines = [line for section in sections for line in markers(section)]
        path = measured.folder / ("" if page == README.name else "docs") / page
        path.write_text("\n".join(lines))
    for command in (("benchmarks.reference", run, "here"), ("benchmarks.readme",)):
        done = python(*command, cwd=measured.folder)
        assert done.returncode == 0, done.stderr
    text = (measured.folder / "README.md").read_text()
    assert "| planted | 2 s | 1 s | 2.00x [2.00, 2.00] | [1.000, 1.000] | faster | 10 /s |" in text
    text = (measured.folder / "docs/results.md").read_text()
    assert "| steady | 3 s | 1.5 s | 2.00x [2.00, 2.00] |" in text
    run.unlink()
    link = measured.folder / ".benchmarks/0000_reference_here.json"
    assert link.samefile(measured.folder / "benchmarks/results/here.json")
    ended = measured.run("--benchmark-compare", after=4.0)
    assert ended.status == 0, ended.text
    assert "2.00x [2.00, 2.00]" in ended.text and "0.50x [0.50, 0.50]" in ended.text


def test_a_run_of_one_side_is_refused_as_reference(measured):
    measured.run("--impl", "after")
    done = python("benchmarks.reference", measured.runs[-1], "x", cwd=measured.folder)
    assert done.returncode == 2
    assert "not a complete run of both sides" in done.stderr
    assert not (measured.folder / "benchmarks/results/x.json").exists()


def test_every_committed_run_is_linked_in_the_storage_root():
    linked = {path.resolve() for path in (ROOT / ".benchmarks").glob("0000_reference*.json")}
    assert linked == set(RESULTS.glob("*.json"))
    for path in linked:
        assert len(read_benchmark(path).table("bottleneck")) >= 8


def test_the_newest_complete_run_is_shown(measured):
    newest = measured.runs[-1]
    assert newest_run(measured.folder / ".benchmarks") == newest
    measured.run("-k", "planted")
    assert newest_run(measured.folder / ".benchmarks") == newest, "part of a run"
    measured.run()
    assert newest_run(measured.folder / ".benchmarks") == measured.runs[-1] != newest

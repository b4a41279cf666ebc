"""The documentation's Python runs, its commands exist, its op reference is the registry's."""

import argparse
import re
import shlex
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.op_reference import PAGE, op_reference
from benchmarks.picture import pictures
from tfa_kernels.ops import OPS
from tfa_perf.cli import _whole_parser
from tfa_perf.data import synthetic_bars
from tfa_perf.profile.phases import Recorder
from tfa_perf.profile.run_file import RunFile, SamplerUsed, StackTable, write_run
from tfa_perf.profile.steps import StepLog

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def of_the_readers(folder):
    """What a reader has before the first block: a table, bars, a model, a profiled run."""
    bars = synthetic_bars(600)
    log = StepLog(Recorder())
    for _ in range(5):
        log.cut()
    now = datetime.now(timezone.utc)
    run = RunFile(
        name="train", command=["train.py"], exit_code=0, started=now, finished=now, wall_s=1.0,
        versions={}, machine={}, sampler=SamplerUsed(name="none", reason="asked", rate=100),
        times=log.finish(), samples=StackTable(frames=[], stacks=[]),
    )  # fmt: skip
    (folder / "profiles/20260101-120000-train").mkdir(parents=True)
    write_run(folder / "profiles/20260101-120000-train", run)
    (folder / "configs").symlink_to(ROOT / "configs")
    return {
        "X": np.zeros((600, 3), np.float32),
        "y": np.zeros(600, np.float32),
        "epochs": 1,
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 3, 1)),
        "bars": bars,
        "history": bars,
        "starts": [0, 400],
    }


@pytest.fixture
def registry():
    """Ops of the blocks' own are gone afterwards."""
    known = set(OPS)
    yield
    for name in set(OPS) - known:
        del OPS[name]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/drop-in.md",
        "docs/measuring.md",
        "docs/profile-format.md",
        "docs/universe.md",
        "kernels/README.md",
    ],
)
def test_python_blocks_run(page, tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks
    names = of_the_readers(tmp_path)
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_every_page_with_python_is_run():
    (runs,) = test_python_blocks_run.pytestmark
    pages = [ROOT / "README.md", ROOT / "kernels/README.md", *DOCS.glob("*.md")]
    assert {ROOT / page for page in runs.args[1]} == {
        page for page in pages if "```python" in page.read_text()
    }


# An option that the pages suppose a script of the reader's to have.
THE_READERS = "--batch"
COMMAND = re.compile(r"tfa-perf +|python -m tfa_perf\.")


def _mentions():
    """(page, text) of each indented command line and each option or command between backticks."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
        spans = re.findall(r"`([^`]+)`", re.sub(r"\n(?=\S)", " ", text))
        for found in [*re.findall(r"^    (\S.*)$", text, re.M), *spans]:
            for command in found.split(" && "):
                if COMMAND.match(command) or command.startswith("--"):
                    yield page.name, command


def _of_benchmarks(pytestconfig):
    """Options of ``pytest benchmarks``: ours, and pytest's with its plugins'."""
    ours = re.findall(r'"(--[a-z-]+)"', (ROOT / "benchmarks/conftest.py").read_text())
    return [*ours, *("--" + name.replace("_", "-") for name in vars(pytestconfig.option))]


def test_commands_and_options_of_the_pages_exist(pytestconfig):
    whole = _whole_parser()
    (commands,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    options = {name: set(each._option_string_actions) for name, each in commands.choices.items()}
    options["COMMAND"] = {"--help"}
    every = {*whole._option_string_actions, THE_READERS, *_of_benchmarks(pytestconfig)}
    every = every.union(*options.values())
    seen = set()
    for page, text in _mentions():
        words = shlex.split(COMMAND.sub("", text), comments=True)
        # What follows is another program's.
        words = words[: words.index("--")] if "--" in words else words
        words = words[:2] if words[:1] == ["adopt"] else words
        command = next((word for word in words[:1] if word[0] != "-"), None)
        assert command is None or command in options, (page, text)
        allowed = every if command is None else options[command]
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= allowed, (page, text)
        seen.add(command)
    assert len(seen) > 10


def test_every_command_has_its_exit_codes():
    (commands,) = (a for a in _whole_parser()._actions if isinstance(a, argparse._SubParsersAction))
    rows = re.findall(r"^\| (`.*?`) \|", (DOCS / "commands.md").read_text(), re.M)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(commands.choices)


def test_arguments_have_descriptions_on_the_page_and_types_from_the_signature():
    griffe = pytest.importorskip("griffe")
    module = griffe.load(
        "tfa_kernels.windows",
        search_paths=[ROOT / "kernels"],
        extensions=griffe.load_extensions(str(DOCS / "docstrings.py")),
        docstring_parser="numpy",
        docstring_options={"warnings": False},
    )
    parts = {part.kind.value: part.value for part in module["gather_windows"].docstring.parsed}
    X, starts = parts["parameters"][:2]
    assert (str(X.annotation), X.description[:25]) == (
        "npt.NDArray[Any]",
        "[N, F], C-contiguous, any",
    )
    assert "checked on every call" in starts.description
    assert [each.description[:10] for each in parts["raises"]] == ["an argumen", "a wrong sh"]


def test_op_reference_is_what_the_registry_says():
    assert PAGE.read_text() == op_reference()


def test_pictures_are_what_the_committed_runs_say():
    for name, content in pictures().items():
        assert (DOCS / name).read_text() == content

"""The documentation's Python runs, and its op reference is the registry's."""

import re
from pathlib import Path

import pytest

from benchmarks.op_reference import PAGE, op_reference
from benchmarks.picture import pictures

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["drop-in.md", "measuring.md"])
def test_python_blocks_run(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_op_reference_is_what_the_registry_says():
    assert PAGE.read_text() == op_reference()


def test_pictures_are_what_the_committed_runs_say():
    for name, content in pictures().items():
        assert (DOCS / name).read_text() == content

"""What a run of the benchmarks has found so far."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.rounds import Row

__all__ = ["BOTTLENECKS", "IMPLS", "OTHERS", "RUN", "Key", "Run", "name_of"]

IMPLS = ("before", "after")
BOTTLENECKS, OTHERS = "bottleneck", "other"
# Which table, and the name there.
Key = tuple[str, str]


class Run:
    """Rows of the tables, and what decides whether later runs may be compared with this one.

    Attributes
    ----------
    rows, memory, lengths : what the tables show.
    row_of : the row of each test that has one, by node id.
    failed : names of failed tests by node id.
    not_there : why a row of another library is not measured, by the row's name.
    left_out : tests that were deselected.
    selected : node ids of the tests that are left, but for those that a plain run leaves out.
    wants_partner : whether a saved run is to be found for them.
    succeeded : whether the session ended with every test passed or skipped.
    compared : the saved runs that this one is compared with.
    note : what is said of them before the first test.
    """

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.memory: dict[str, dict[str, list[dict[str, float]]]] = {}
        self.lengths: dict[str, dict[int, Row]] = {}
        self.row_of: dict[str, Key] = {}
        self.failed: dict[str, str] = {}
        self.not_there: dict[str, str] = {}
        self.left_out = 0
        self.selected: set[str] = set()
        self.wants_partner = False
        self.succeeded = False
        self.compared: list[dict[str, Any]] = []
        self.note = ""

    @property
    def sound_rows(self) -> dict[Key, Row]:
        """The rows no test of which has failed."""
        lost = {self.row_of.get(node, (BOTTLENECKS, name)) for node, name in self.failed.items()}
        return {key: row for key, row in self.rows.items() if key not in lost}


RUN = pytest.StashKey[Run]()


def name_of(item: pytest.Item) -> str:
    """What the tables call the test: its marker ``row(name)``, or its name in words.

    Parameters follow, but for the side.
    """
    marker = item.get_closest_marker("row")
    if marker is not None:
        name: str = marker.args[0]
    else:
        name = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return name
    parts = callspec.id.split("-")
    if callspec.params.get("impl") in parts:
        parts.remove(callspec.params["impl"])
    return f"{name}[{'-'.join(parts)}]" if parts else name

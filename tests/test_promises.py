"""Every test that docs/promises.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (ROOT / "docs/promises.md").read_text())


def test_every_promise_has_its_test():
    assert len(PROMISES) > 30
    missing = [
        f"{file}::{name}"
        for file, name in PROMISES
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []

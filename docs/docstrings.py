"""Docstrings as mkdocstrings takes them: what follows ``name :`` is a description, not a type."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^(Parameters|Attributes|Raises|Returns)\n-+\n(?:.+\n?|\n(?=    ))*", re.M)
_ENTRY = re.compile(r"^(\S[^:\n]*) : ", re.M)


class DescribedNames(griffe.Extension):
    """Types come from signatures; a literal block that ``::`` announces needs one colon here."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        text = re.sub(r"::$", ":", obj.docstring.value, flags=re.M)
        obj.docstring.value = _SECTION.sub(
            lambda section: _ENTRY.sub(r"\1\n    ", section.group()), text
        )

"""JSON and YAML that somebody else may have written: read in bounded memory, as plain values."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["JSON_BYTES", "YAML_BYTES", "DocumentError", "load_json", "load_yaml", "read_text"]

# PyYAML takes about a thousand times the bytes that it reads, json much less.
YAML_BYTES, JSON_BYTES = 1 << 20, 16 << 20


class DocumentError(ValueError):
    """A file or text that cannot be read; the message has one line and no file name."""


def read_text(path: str | os.PathLike[str], most_bytes: int) -> str:
    """The text of a UTF-8 file of at most that many bytes; DocumentError where it is none."""
    try:
        # A device or a pipe says nothing of its size beforehand.
        with Path(path).open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DocumentError(f"cannot be read ({reason}); check the path") from error
    if len(content) > most_bytes:
        raise DocumentError(f"has more than the {most_bytes:,} bytes that are allowed; write less")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("not UTF-8 text; write JSON or YAML") from error


def load_json(text: str) -> Any:
    """As ``json.loads``; DocumentError for all that it does not take."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not valid JSON: {error}") from error


def load_yaml(text: str) -> Any:
    """As ``yaml.safe_load``, but without aliases: a few lines of them stand for endless values.

    Raises
    ------
    DocumentError : not YAML of plain values; the message says the line where it is known.
    ImportError : pyyaml is missing.
    """
    import yaml

    class WithoutAliases(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.MarkedYAMLError(
                    problem=f"the alias *{event.anchor}; write the value itself",
                    problem_mark=event.start_mark,
                )
            return super().compose_node(parent, index)

    try:
        return WithoutAliases(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise DocumentError(f"not valid YAML: {where}{error.problem}") from error
    # Besides: numbers and dates that Python does not take, characters, nesting too deep.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = str(error).partition("\n")[0]
        raise DocumentError(f"not valid YAML: {line}") from error

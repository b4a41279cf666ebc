"""One JSON document on stdout, and nothing else there."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

__all__ = ["json_alone"]


@contextmanager
def json_alone(wanted: bool) -> Iterator[TextIO]:
    """Yield a file whose content is all that stdout gets, at the end, where ``wanted``.

    What is printed inside, by child processes too, goes to stderr. An exception leaves stdout
    empty, as does a file without content. Where it is not wanted, stdout stays as it is and the
    file is thrown away.
    """
    document = io.StringIO()
    if not wanted:
        yield document
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield document
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)
    if document.getvalue():
        print(document.getvalue().rstrip("\n"), flush=True)

"""Pieces of HTML whose text cannot break out of them."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

__all__ = ["Html", "badge", "definitions", "frame", "picture", "table", "text"]


_SHORT = 24


class Html(str):
    """Markup, which is put into the page as it is; any other text is escaped."""


def text(content: str) -> Html:
    return content if isinstance(content, Html) else Html(html.escape(content))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table whose rows become blocks of "heading: cell" where the page is narrow."""
    head = "".join(f"<th>{text(heading)}</th>" for heading in headings)
    body = []
    for row in rows:
        cells = [
            f'<td{_short(cell)} data-h="{text(name)}">{text(cell)}</td>'
            if cell
            else "<td class=none></td>"
            for name, cell in zip(headings[1:], row[1:], strict=True)
        ]
        body.append(f"<tr><th scope=row>{text(row[0])}</th>{''.join(cells)}</tr>")
    return Html(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>")


def _short(cell: str) -> str:
    # A figure with its unit or its interval is not broken over lines.
    return " class=short" if not isinstance(cell, Html) and len(cell) <= _SHORT else ""


def badge(verdict: str, label: str = "") -> Html:
    """A verdict in its colour."""
    kind = verdict.split(":")[0].replace(" ", "-")
    return Html(f'<span class="badge {text(kind)}">{text(label or verdict)}</span>')


def picture(svg: str, alternative: str) -> Html:
    """An SVG as an image: nothing in it can reach the page, and it follows light and dark."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return Html(f'<img alt="{text(alternative)}" src="data:image/svg+xml;base64,{data}">')


def frame(page: str, title: str) -> Html:
    """A whole page inside the page, with scripts of its own but no hold on this one."""
    return Html(
        f'<iframe sandbox="allow-scripts" loading="lazy" title="{text(title)}" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def definitions(pairs: Mapping[str, str]) -> Html:
    return Html(
        "<dl>"
        + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in pairs.items())
        + "</dl>"
    )

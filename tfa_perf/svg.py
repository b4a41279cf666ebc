"""Small SVG pieces: text that cannot break out, colours for light and dark, tick values."""

from __future__ import annotations

import html
import math

__all__ = ["document", "dots", "line", "log_ticks", "rect", "text"]

# One class per role, so that pictures put into one page share a single set of colours.
_STYLE = """
.tp{font:12px system-ui,-apple-system,'Segoe UI',sans-serif}
.tp .bg{fill:#fff}.tp .ink{fill:#14181f}.tp .dim{fill:#5b6472}.tp .grid{stroke:#d9dde3}
.tp .a{stroke:#c2410c;fill:#c2410c}.tp .b{stroke:#1d4ed8;fill:#1d4ed8}
.tp .c{stroke:#0f766e;fill:#0f766e}.tp .band{fill:#94a3b8;fill-opacity:.35}
.tp .fit{stroke-width:1.5;stroke-dasharray:5 4;opacity:.7}
.tp .CONFIRMED,.tp .AT-LEAST{fill:#15803d;stroke:#15803d}
.tp .EXCEEDED{fill:#1d4ed8;stroke:#1d4ed8}.tp .REFUTED{fill:#b91c1c;stroke:#b91c1c}
.tp .INCONCLUSIVE,.tp .INVALID,.tp .NOT-MEASURED{fill:#5b6472;stroke:#5b6472}
.tp text{stroke:none!important}
@media(prefers-color-scheme:dark){
.tp .bg{fill:#15181d}.tp .ink{fill:#e8ebf0}.tp .dim{fill:#a2abb8}.tp .grid{stroke:#3a414c}
.tp .a{stroke:#fb923c;fill:#fb923c}.tp .b{stroke:#7aa2ff;fill:#7aa2ff}
.tp .c{stroke:#2dd4bf;fill:#2dd4bf}
.tp .CONFIRMED,.tp .AT-LEAST{fill:#4ade80;stroke:#4ade80}
.tp .EXCEEDED{fill:#7aa2ff;stroke:#7aa2ff}.tp .REFUTED{fill:#f87171;stroke:#f87171}
.tp .INCONCLUSIVE,.tp .INVALID,.tp .NOT-MEASURED{fill:#a2abb8;stroke:#a2abb8}}
"""


def document(width: int, height: int, parts: list[str], title: str) -> str:
    """A whole picture with its own styles; ``parts`` are made by the functions below."""
    name = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tp" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{name}">'
        f"<title>{name}</title><style>{_STYLE}</style>"
        f'<rect class="bg" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n'
    )


def text(x: float, y: float, content: str, kind: str = "ink", anchor: str = "start") -> str:
    """``content`` as text, whatever it holds."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{html.escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}" '
        f'stroke-width="{width}"/>'
    )


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
        f'class="{kind}"/>'
    )


def dots(points: list[tuple[float, float]], kind: str) -> str:
    return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}"/>' for x, y in points)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``; with 2 and 5 between them where those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1.0,) if math.log10(high / low) > 2.5 else (1.0, 2.0, 5.0)
    values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [v for v in values if low * 0.999 <= v <= high * 1.001]

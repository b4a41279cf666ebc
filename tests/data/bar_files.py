"""Four bars as a CSV file has them."""

from __future__ import annotations

from pathlib import Path

HEADER = "ts,open,high,low,close,volume"
ROWS = (
    "2024-02-02T14:30:00Z,10,11,9,10.5,100",
    "2024-02-02T14:31:00Z,10.5,10.5,10.5,10.5,0",
    "2024-02-02T14:32:00Z,10.5,12,10.25,11.75,250",
    "2024-02-02T14:33:00Z,11.75,12,11,11.5,300",
)


def write(folder: Path, *lines: str, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

"""Colours and order of phases, the same on every page and picture."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterable

from tfa_perf.profile.flame import Node
from tfa_perf.profile.laps import OTHER

NEUTRAL = "#c9ced6"
INK = "#14181f"

# In the order of a step, so that two runs line up; the hue of each in degrees.
_HUES = {
    "data_wait": 28,
    "h2d": 50,
    "zero_grad": 172,
    "forward": 212,
    "validation": 232,
    "backward": 262,
    "clip": 90,
    "optimizer": 140,
    "loss_read": 335,
    "logging": 300,
    "checkpoint": 192,
    "device_wait": 0,
    "graph_replay": 248,
    "numba_compile": 15,
    "torch_compile": 5,
    "triton_compile": 350,
}
# What the hooks time in any program; a program's own phases come on top.
HOOKED_PHASES = frozenset({*_HUES, OTHER})
_ORDER = {name: place for place, name in enumerate(_HUES)}


def _hex(hue: float, lightness: float, saturation: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue / 360, lightness, saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def phase_colour(name: str, shade: float = 0.5) -> str:
    """A phase's colour, the same everywhere; `shade` runs from 0 (darker) to 1."""
    hue = _HUES.get(name, zlib.crc32(name.encode()) % 360)
    return _hex(hue, 0.66 + 0.16 * shade, 0.0 if name == OTHER else 0.62)


def frame_colour(phase: str, frame: str) -> str:
    """A shade of the phase's colour, the same for a frame wherever it is."""
    return phase_colour(phase, (zlib.crc32(frame.encode()) % 101) / 100)


def change_colour(change: float) -> str:
    """Grey at 0, to red at 1 (grew) and to blue at -1 (shrank)."""
    strength = min(abs(change), 1.0)
    return _hex(4 if change > 0 else 214, 0.88 - 0.24 * strength, 0.85 * strength**0.5)


def in_step_order(phases: Iterable[Node]) -> list[Node]:
    """Phases in the order of a step, the program's own after them and ``other`` last."""
    last = len(_ORDER)
    return sorted(phases, key=lambda n: (n.name == OTHER, _ORDER.get(n.name, last), n.name))


def longest_first(frames: Iterable[Node]) -> list[Node]:
    """Frames by their time, the longest first."""
    return sorted(frames, key=lambda n: (-n.total, n.name))

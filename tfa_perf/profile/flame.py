"""Displayed stacks summed into a tree, and written as flame graph tools read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import Stack

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


@dataclass
class Node:
    """A frame of the merged tree: seconds in it and below it."""

    name: str
    total: float = 0.0
    children: dict[str, Node] = field(default_factory=dict)


def build_tree(stacks: Iterable[tuple[Sequence[str], float]], name: str = "all") -> Node:
    """Merge (frames root first, weight) pairs into one tree."""
    root = Node(name)
    for frames, weight in stacks:
        root.total += weight
        node = root
        for frame in frames:
            child = node.children.get(frame)
            if child is None:
                child = node.children[frame] = Node(frame)
            child.total += weight
            node = child
    return root


def collapsed(stacks: Iterable[Stack]) -> str:
    """Collapsed stacks, one ``frame;frame;frame count`` per line; the count is in microseconds."""
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for stack in stacks:
        counts[stack.frames] += stack.weight
    return "".join(
        f"{';'.join(frames)} {round(weight * 1e6)}\n" for frames, weight in sorted(counts.items())
    )


def speedscope(stacks: Sequence[Stack], name: str) -> dict[str, Any]:
    """A speedscope document: one profile a thread, the main thread's first, rooted at phases."""
    indexes: dict[str, int] = {}
    profiles: dict[str, dict[str, Any]] = {}
    for stack in sorted(stacks, key=lambda s: s.thread != MAIN):
        profile = profiles.setdefault(
            stack.thread,
            {
                "type": "sampled",
                "name": stack.thread if stack.thread == MAIN else f"thread: {stack.thread}",
                "unit": "seconds",
                "startValue": 0.0,
                "endValue": 0.0,
                "samples": [],
                "weights": [],
            },
        )
        profile["samples"].append([indexes.setdefault(f, len(indexes)) for f in stack.frames])
        profile["weights"].append(stack.weight)
        profile["endValue"] += stack.weight
    return {
        "$schema": SPEEDSCOPE_SCHEMA,
        "name": name,
        "exporter": "tfa-perf",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in indexes]},
        "profiles": list(profiles.values()),
    }

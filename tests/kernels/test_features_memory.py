"""Peak memory of a build, in a process of its own: the output and little else."""

from __future__ import annotations

import json
import sys
from itertools import cycle, islice

import pytest

from tfa_kernels.ops import OPS

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peaks are read from /proc/self/status"
)

pytestmark = pytest.mark.compiled

COLUMNS = 55
SOURCES = ("close", "volume", "open", "high", "low", "logret")

BUILD = """
import ctypes, json, sys
import numpy as np
from tfa_kernels import build_features

def bars(rows):
    rng = np.random.default_rng(0)
    close = 100 + rng.random(rows)
    prices = {"open": close + 0.1, "high": close + 1, "low": close - 1, "close": close}
    return {**prices, "volume": 1000 * rng.random(rows)}

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024

given, asked = bars(1_000_000), json.loads(sys.stdin.read())
spec, path = asked["spec"], asked["path"]
build_features(bars(5000), spec)
shape = (1_000_000, len(spec["features"]))
out = np.memmap(path, np.float32, "w+", shape=shape) if path else np.empty(shape, np.float32)
ctypes.CDLL(None).malloc_trim(0)  # what compiling has freed must not hide what a build takes
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # VmHWM begins anew
before = status("VmRSS")
build_features(given, spec, out=out)
print(json.dumps({"growth": status("VmHWM") - before, "output": out.nbytes}))
"""


def spec_of(convention, entries):
    features = []
    for i, (op, source) in enumerate(islice(cycle(entries), COLUMNS)):
        window = {} if OPS[op].window is None else {"window": 5 + i}
        features.append({"name": str(i), "op": op, "source": source, **window})
    return {"schema_version": "2.0", "convention": convention, "features": features}


BANK = [("EMA", "close"), ("RSI", "close"), ("ZWIN", "close")]
EVERYTHING = list(zip(OPS, cycle(SOURCES), strict=False))


@pytest.mark.parametrize("into", ["array", "memmap"])
@pytest.mark.parametrize(
    ("convention", "entries"),
    [("talib", BANK), ("talib", EVERYTHING), ("legacy", EVERYTHING)],
    ids=["bank", "every op, talib", "every op, legacy"],
)
def test_a_build_takes_little_more_than_its_output(convention, entries, into, run_script, tmp_path):
    path = str(tmp_path / "out.f32") if into == "memmap" else ""
    asked = json.dumps({"spec": spec_of(convention, entries), "path": path})
    used = json.loads(run_script(BUILD, stdin=asked))
    if not path:  # a peak below the output would be no peak
        assert used["growth"] > 0.98 * used["output"]
    assert used["growth"] <= 1.1 * used["output"], used

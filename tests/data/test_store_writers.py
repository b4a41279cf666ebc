"""Several writers of one store, and writers that are killed: somebody's whole store is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tfa_perf.data import NewerStoreError, StoreError, StoreWriter, open_or_build, open_store

N, F = 40, 3


def filled(value: float, spec: str = "abc"):
    def build(writer: StoreWriter) -> None:
        writer.features[...] = value
        writer.commit(names=["a", "b", "c"], spec_hash=spec, convention="legacy")

    return build


def never(writer: StoreWriter) -> None:
    raise AssertionError("built")


def made(path: Path, value: float, *, rows: int = N, spec: str = "abc", build=None):
    build = build or filled(value, spec)
    return open_or_build(path, build, rows=rows, features=F, spec_hash=spec, verify=True)


def test_a_store_that_fits_is_opened_and_another_is_built(tmp_path):
    path = tmp_path / "store"
    assert (made(path, 1.0).features == 1.0).all()
    assert (made(path, 2.0, build=never).features == 1.0).all()
    assert (made(path, 3.0, spec="other").features == 3.0).all()
    assert made(path, 4.0, spec="other", rows=N + 1).features.shape == (N + 1, F)
    (features,) = path.glob("data-*/features.npy")
    features.write_bytes(features.read_bytes()[:-1] + b"!")
    assert (made(path, 5.0, spec="other", rows=N + 1).features == 5.0).all()


def test_a_build_of_something_else_is_refused(tmp_path):
    with pytest.raises(StoreError, match="built from spec other, not abc"):
        made(tmp_path / "store", 1.0, build=filled(1.0, "other"))
    with pytest.raises(StoreError, match="nothing was stored"):
        made(tmp_path / "empty", 1.0, build=lambda writer: None)


def test_a_newer_version_is_neither_read_nor_replaced(tmp_path):
    path = tmp_path / "store"
    made(path, 1.0)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "version": 3}))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for attempt in (lambda: made(path, 2.0, spec="other"), lambda: open_store(path)):
        with pytest.raises(NewerStoreError, match="'version' is 3, this program reads 2; upgrade"):
            attempt()
    with pytest.raises(NewerStoreError), StoreWriter(path, N, F):
        pass
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_description_too_large_to_be_one_is_not_read(tmp_path):
    made(tmp_path, 1.0)
    with (tmp_path / "meta.json").open("r+b") as file:
        file.truncate(1 << 40)
    too_large = pytest.raises(StoreError, match="has more than the 67,108,864 bytes that are")
    with too_large:
        open_store(tmp_path)
    # One that never ends, and has no size.
    (tmp_path / "meta.json").unlink()
    (tmp_path / "meta.json").symlink_to("/dev/zero")
    with too_large:
        open_store(tmp_path)


READER = """
import sys
from tfa_perf.data import open_store
store = open_store(sys.argv[1], verify=True)
print(store.features.sum(), flush=True)
sys.stdin.readline()
print(store.features.sum(), flush=True)
"""


def test_processes_share_the_pages_of_a_store_and_keep_one_that_is_replaced(tmp_path):
    path = tmp_path / "store"
    made(path, 1.0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READER, path], **pipes) for _ in range(2)]
    assert [reader.stdout.readline() for reader in readers] == [f"{N * F}.0\n"] * 2
    for reader in readers:
        maps = Path(f"/proc/{reader.pid}/maps").read_text().splitlines()
        (mapped,) = (line for line in maps if line.endswith("features.npy"))
        # Shared pages of the file, which cannot be written.
        assert mapped.split()[1] == "r--s"
    made(path, 2.0, spec="other")
    for reader in readers:
        assert reader.communicate("\n", timeout=60)[0] == f"{N * F}.0\n"


BUILDERS = """
import sys, time
import numpy as np
from tfa_perf.data import open_or_build
path, log, wanted = sys.argv[1:]
def build(writer):
    with open(log, "a") as file:
        file.write(f"{wanted} began\\n")
    for row in range(40):
        writer.features[row] = int(wanted)
        time.sleep(0.01)
    with open(log, "a") as file:
        file.write(f"{wanted} ended\\n")
    writer.commit(names=["a", "b", "c"], spec_hash=spec, convention="legacy")
spec = "abc" if int(wanted) < 3 else wanted
print("ready", flush=True)
sys.stdin.readline()
store = open_or_build(path, build, rows=40, features=3, spec_hash=spec)
print(sorted(set(store.features.ravel().tolist())))
"""


def at_once(tmp_path: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """What processes that build one store at the same time print and log."""
    script = tmp_path / "builder.py"
    script.write_text(BUILDERS)
    log = tmp_path / "log"
    command = [sys.executable, str(script), str(tmp_path / "store"), str(log)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, name], **pipes) for name in names]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(names)
    return printed, log.read_text().split("\n")[:-1]


def test_of_processes_that_want_the_same_store_one_builds(tmp_path):
    printed, log = at_once(tmp_path, ["0", "1", "2"])
    assert len(log) == 2
    builder = log[0].split()[0]
    assert log == [f"{builder} began", f"{builder} ended"]
    assert printed == [f"[{float(builder)}]"] * 3


def test_processes_that_want_different_stores_build_one_after_the_other(tmp_path):
    printed, log = at_once(tmp_path, ["3", "4"])
    assert printed == ["[3.0]", "[4.0]"]
    first, second = log[0].split()[0], log[2].split()[0]
    assert log == [f"{one} {what}" for one in (first, second) for what in ("began", "ended")]
    assert open_store(tmp_path / "store", verify=True).spec_hash == second


# Forks, which start at once: 200 processes of their own would take minutes to import numpy.
KILLS = """
import os, random, signal, sys, time
import numpy as np
from tfa_perf.data import create_store, open_store
path, kills = sys.argv[1], int(sys.argv[2])
random.seed(5)
rows, features = 4000, 4

def build(value):
    with create_store(path, rows=rows, features=features) as writer:
        writer.features[...] = value
        writer.labels[...] = value
        writer.commit(names=list("abcd"), spec_hash=str(value), convention="legacy")

def seconds(repeats=10):
    began = time.perf_counter()
    for value in range(repeats):
        build(value)
    return (time.perf_counter() - began) / repeats

one, last, seen = seconds(), 9, 0
for kill in range(kills):
    child = os.fork()
    if not child:
        value = last
        while True:
            value += 1
            build(value)
    time.sleep(random.uniform(0, 2.5 * one))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store = open_store(path, verify=True)
    value = int(store.spec_hash)
    assert value >= last, (value, last)
    assert (store.features == value).all() and (store.labels == value).all()
    seen += value > last
    last = value
build(last + 1)
print(seen, sorted(os.path.splitext(name)[1] or name[:4] for name in os.listdir(path)))
"""


def test_killed_at_200_random_moments_the_store_is_always_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "store"), "200"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, rest = done.stdout.split(maxsplit=1)
    # Some kills came before a publication and some after.
    assert 20 < int(seen) < 195
    assert rest == "['.json', 'data', 'lock']\n"

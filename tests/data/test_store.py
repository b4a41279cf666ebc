"""Feature stores on a real disk: published whole or not at all, damage is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfa_perf.data import FeatureStore, Scaler, StoreError, create_store, open_store
from tfa_perf.data.store_meta import meta_crc32

N, F = 50, 3
NAMES = ["close", "rsi_14", "atr_14"]
FILES = {"features.npy", "labels.npy", "trainable.npy", "ts.npy"}


def build(path: Path, value: float = 1.0, **meta: Any) -> None:
    with create_store(path, rows=N, features=F) as writer:
        writer.features[...] = value * np.arange(N * F).reshape(N, F)
        writer.labels[...] = np.arange(N) % 2
        writer.trainable[...] = np.arange(N) < N - 5
        writer.ts[...] = 10**18 + np.arange(N)
        writer.commit(**{"names": NAMES, "spec_hash": "abc", "convention": "legacy", **meta})


def data_folder(path: Path) -> Path:
    return path / json.loads((path / "meta.json").read_text())["data"]


def edit(path: Path, **changes: Any) -> None:
    meta = json.loads((path / "meta.json").read_text()) | changes
    (path / "meta.json").write_text(json.dumps({**meta, "crc32": meta_crc32(meta)}))


def assert_holds(store: FeatureStore, value: float) -> None:
    np.testing.assert_array_equal(
        store.features, (value * np.arange(N * F)).reshape(N, F).astype(np.float32)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build(tmp_path / "store")
    return tmp_path / "store"


def test_round_trip(tmp_path: Path) -> None:
    scaler = Scaler(np.array([0.1, 2, 3]), np.array([1, 1 / 3, 5e-9]))
    path = tmp_path / "a" / "b"
    offsets = np.array([0, 20, N])
    build(path, scaler=scaler, scaled=True, symbols=("A", "B"), offsets=offsets)
    store = open_store(str(path), spec_hash="abc", verify=True)
    assert len(store) == N and store.names == tuple(NAMES) and store.symbols == ("A", "B")
    assert (store.spec_hash, store.convention, store.scaled) == ("abc", "legacy", True)
    assert_holds(store, 1.0)
    np.testing.assert_array_equal(store.labels, np.arange(N) % 2)
    np.testing.assert_array_equal(store.trainable, np.arange(N) < N - 5)
    np.testing.assert_array_equal(store.ts, 10**18 + np.arange(N))
    np.testing.assert_array_equal(store.offsets, offsets)
    assert store.scaler is not None
    np.testing.assert_array_equal(store.scaler.mean, scaler.mean)
    np.testing.assert_array_equal(store.scaler.scale, scaler.scale)
    dtypes = [a.dtype for a in (store.features, store.labels, store.trainable, store.ts)]
    assert dtypes == [np.float32, np.float32, np.bool_, np.int64]
    assert not store.features.flags.writeable and store.features.flags.c_contiguous
    assert "50 rows x 3 features" in repr(store)
    assert {entry.name for entry in path.iterdir()} == {
        "lock",
        "meta.json",
        data_folder(path).name,
    }
    assert {entry.name for entry in data_folder(path).iterdir()} == FILES


def test_a_new_store_replaces_the_old_one(path: Path) -> None:
    old = open_store(path)
    (path / "notes.txt").write_text("mine")
    build(path, value=2.0)
    assert_holds(open_store(path, verify=True), 2.0)
    assert {entry.name for entry in path.iterdir()} == {
        "lock",
        "meta.json",
        "notes.txt",
        data_folder(path).name,
    }
    assert_holds(old, 1.0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_what_was_there(path: Path, error: type[BaseException]) -> None:
    before = sorted(path.rglob("*"))
    with pytest.raises(error), create_store(path, rows=N, features=F) as writer:
        writer.features[...] = 7
        raise error
    assert sorted(path.rglob("*")) == before
    assert_holds(open_store(path, verify=True), 1.0)


def test_an_exception_in_a_first_build_leaves_an_empty_place(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        create_store(tmp_path / "a" / "b", rows=N, features=F) as writer,
    ):
        writer.labels[...] = 1
        raise RuntimeError
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [
        tmp_path / "a" / "b" / "lock"
    ]
    with pytest.raises(StoreError, match="no feature store here"):
        open_store(tmp_path / "a" / "b")


def test_leaving_without_commit_is_an_error(path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"nothing was stored; call commit\(\) inside the with"),
        create_store(path, rows=N, features=F),
    ):
        pass
    assert_holds(open_store(path), 1.0)
    with create_store(path, rows=N, features=F) as writer:
        writer.commit(names=NAMES, spec_hash="", convention="")
        with pytest.raises(StoreError, match="only inside the with, until commit"):
            _ = writer.features
        with pytest.raises(StoreError, match="only inside the with, until commit"):
            writer.commit(names=NAMES, spec_hash="", convention="")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"names": NAMES[:2]}, "3 features but 2 names"),
        ({"names": ["a", "a", "b"]}, "'names' is empty or repeats"),
        ({"spec_hash": None}, "'spec_hash' is None, not text"),
        ({"offsets": np.array([0, 10])}, "'offsets' does not go from 0 to 50"),
        ({"offsets": np.array([0.0, 50.0])}, "'offsets' is not a list of whole numbers"),
        ({"symbols": ("A", "B")}, "'offsets' does not rise, or is not one longer"),
        ({"scaler": Scaler(np.zeros(2), np.ones(2))}, "'scaler' does not have one mean per name"),
        ({"scaled": True}, "'scaled' is true, but there is no 'scaler'"),
    ],
)
def test_a_commit_that_does_not_fit(path: Path, meta: dict[str, Any], message: str) -> None:
    before = sorted(path.rglob("*"))
    with pytest.raises(StoreError, match=message):
        build(path, value=2.0, **meta)
    assert sorted(path.rglob("*")) == before
    assert_holds(open_store(path, verify=True), 1.0)


KILLED = """
import os, signal, sys
import numpy as np
from tfa_perf.data import create_store
stop_before = sys.argv[2]
def kill(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)
if stop_before != "commit":
    setattr(os, stop_before, kill)
with create_store(sys.argv[1], rows=50, features=3) as writer:
    writer.features[...] = 9
    if stop_before == "commit":
        kill()
    writer.commit(names=["a", "b", "c"], spec_hash="new", convention="talib")
"""


@pytest.mark.parametrize("stop_before", ["commit", "fsync", "rename", "replace"])
def test_a_process_killed_before_the_publication(path: Path, stop_before: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), stop_before]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert_holds(open_store(path, spec_hash="abc", verify=True), 1.0)
    assert len(list(path.iterdir())) == 4
    build(path, value=2.0)
    assert_holds(open_store(path, verify=True), 2.0)
    assert len(list(path.iterdir())) == 3


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 8)


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"has \d+ bytes, not \d+; rebuild"),
        (append, r"has \d+ bytes, not \d+; rebuild"),
        (remove, "missing; rebuild the store"),
    ],
)
def test_a_damaged_file_is_found(
    path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(data_folder(path) / name)
    with pytest.raises(StoreError, match=rf"{name}: {message}"):
        open_store(path)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_flipped_bit_is_found_by_verify(path: Path, name: str) -> None:
    file = data_folder(path) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    open_store(path)
    with pytest.raises(StoreError, match=rf"{name}: does not match its checksum; rebuild"):
        open_store(path, verify=True)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((F, N), np.float32),
        np.asfortranarray(np.zeros((N, F), np.float32)),
        np.zeros((N, F), np.int32),
        np.array([["x"] * F] * N, object),
    ],
)
def test_an_array_of_another_form_is_refused(path: Path, array: np.ndarray) -> None:
    file = data_folder(path) / "features.npy"
    np.save(file, array, allow_pickle=True)
    meta = json.loads((path / "meta.json").read_text())
    meta["files"]["features.npy"]["bytes"] = file.stat().st_size
    edit(path, files=meta["files"])
    with pytest.raises(StoreError, match=r"features\.npy: (holds|is no array file)"):
        open_store(path)


@pytest.mark.parametrize(
    "data",
    ["..", "../other", "/etc", "data-0123456789abcdef/..", ".", "", "data-x", None, ["a"], "a\0b"],
)
def test_meta_cannot_name_a_folder_elsewhere(path: Path, data: object) -> None:
    edit(path, data=data)
    with pytest.raises(StoreError, match=r"meta\.json: 'data' is .* rebuild the store"):
        open_store(path)


def test_links_out_of_the_store_are_refused(path: Path, tmp_path: Path) -> None:
    folder = data_folder(path)
    os.rename(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link out of the store; rebuild"):
        open_store(path)
    folder.unlink()
    os.rename(tmp_path / "elsewhere", folder)
    os.rename(folder / "ts.npy", tmp_path / "ts.npy")
    (folder / "ts.npy").symlink_to(tmp_path / "ts.npy")
    with pytest.raises(StoreError, match=r"ts\.npy: is a link out of the store; rebuild"):
        open_store(path)


def test_a_store_behind_a_link_opens(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    assert_holds(open_store(tmp_path / "link"), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "'format' is not"),
        ({"version": 0}, "'version' is 0, this program reads 2"),
        ({"rows": "50"}, "'rows' is '50'"),
        ({"rows": 10**30, "offsets": [0, 10**30]}, r"features\.npy: holds"),
        ({"rows": 49, "offsets": [0, 49]}, r"features\.npy: holds"),
        ({"names": NAMES[:2]}, r"features\.npy: holds"),
        ({"names": [1, 2, 3]}, "'names' is not a list of text"),
        ({"offsets": [0, 60, 50], "symbols": ["A", "B"]}, "'offsets' does not rise"),
        ({"offsets": []}, "'offsets'"),
        ({"files": {}}, "'files' does not describe"),
        ({"files": {"../x": {}, **{name: {} for name in FILES}}}, "'files' does not describe"),
        ({"files": {name: {} for name in FILES}}, "'files' does not give bytes and crc32"),
        ({"files": dict.fromkeys(FILES, 3)}, "'files' does not give bytes and crc32"),
        ({"scaler": {"mean": [0]}}, "a scaler is written as"),
        ({"scaled": 1}, "'scaled' is 1, not true or false"),
        ({"first_valid": -1}, "'first_valid' is -1, not a whole number from 0"),
    ],
)
def test_an_edited_meta_is_refused(path: Path, changes: dict[str, Any], message: str) -> None:
    edit(path, **changes)
    with pytest.raises(StoreError, match=rf"{message}.*rebuild the store"):
        open_store(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_meta_that_is_no_json_object(path: Path, content: bytes) -> None:
    (path / "meta.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"meta\.json: .*rebuild the store"):
        open_store(path)


@pytest.mark.parametrize(
    "change", [{"names": ["a", "b", "c"]}, {"symbols": ["X"]}, {"spec_hash": "xyz"}, {"crc32": 1}]
)
def test_an_edit_that_leaves_a_whole_meta_is_found(path: Path, change: dict[str, Any]) -> None:
    file = path / "meta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StoreError, match="it has been edited: its checksum is another; rebuild"):
        open_store(path)


def test_another_spec_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="built from spec abc, not xyz; rebuild the store"):
        open_store(path, spec_hash="xyz")


def test_places_without_a_store(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="no feature store here; build one"):
            open_store(place)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file; give a folder"):
        create_store(tmp_path / "file", rows=1, features=1)
    with (
        pytest.raises(StoreError, match="cannot be written"),
        create_store(tmp_path / "file" / "x", rows=1, features=1),
    ):
        pass
    with pytest.raises(StoreError, match="a store needs rows and features, got 0 rows"):
        create_store(tmp_path / "s", rows=0, features=1)


def test_no_room_is_an_error_before_anything_is_written(path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"cannot hold .* needs [\d,]+ bytes.* choose a folder"),
        create_store(path, rows=2**50, features=F),
    ):
        pass
    assert_holds(open_store(path, verify=True), 1.0)
    assert len(list(path.iterdir())) == 3


# Bytes that a file may have, in a process of its own: what else it writes counts as well.
FULL = """
import resource, sys
from tfa_perf.data import StoreError, create_store
if sys.argv[2] == "reserving":
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    with create_store(sys.argv[1], rows=5000, features=3) as writer:
        writer.features[...] = 9
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        writer.commit(names=["a", "b", "c"], spec_hash="new", convention="talib")
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("when", "message"), [("reserving", "cannot hold"), ("committing", "cannot commit")]
)
def test_a_disk_that_fills_while_it_is_written(path: Path, when: str, message: str) -> None:
    pytest.importorskip("resource")
    before = sorted(path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), when], capture_output=True, text=True, check=True
    )
    assert message in done.stdout and "File too large" in done.stdout
    assert sorted(path.rglob("*")) == before
    assert_holds(open_store(path, verify=True), 1.0)

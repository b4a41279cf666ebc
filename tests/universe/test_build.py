"""A universe built in one process: what it holds, what is gone on with, what is refused."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfa_kernels import load_spec
from tfa_perf.data import BarsError, NewerStoreError, StoreError, open_store, synthetic_bars
from tfa_perf.data.loader import WindowLoader
from tfa_perf.universe import UsageError, build_universe


@pytest.fixture
def build(tmp_path, spec):
    """Builds ``bars/*`` into ``store`` in this process."""

    def built(**options):
        return build_universe(
            **{
                "bars": tmp_path / "bars" / "*",
                "store": tmp_path / "store",
                "spec": spec,
                "workers": 1,
                **options,
            }
        )

    return built


def states(universe):
    return Counter(each.state for each in universe.partitions)


def reasons(universe):
    return {os.path.basename(each.file): each.reason for each in universe.failed}


def content(folder):
    return {
        file.relative_to(folder): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def test_it_is_the_store_that_the_files_make_one_by_one(
    tmp_path, files, build, expected, assert_same
):
    progress = []
    universe = build(progress=lambda *step: progress.append(step))
    assert_same(open_store(tmp_path / "store"), expected)
    assert states(universe) == {"built": 10} and universe.published and universe.features == 4
    assert [each.file for each in universe.partitions] == [str(file) for file in files]
    assert sum(each.symbols for each in universe.partitions) == len(expected.symbols)
    assert progress == [(what, n, 10) for what in ("counted", "built") for n in range(11)]
    (data,) = (tmp_path / "store").glob("*-*")
    assert {file.name for file in data.iterdir()} == {
        "features.npy", "labels.npy", "trainable.npy", "ts.npy", "index.json",
    }  # fmt: skip


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), window=st.integers(1, 9))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_stay_inside_series_and_have_all_features(
    tmp_path_factory, universe_of, build, spec, sizes, window
):
    folder = tmp_path_factory.mktemp("universe")
    sizes = [max(rows, 2) for rows in sizes]
    files = universe_of(folder / "bars", sizes)
    build(bars=files, store=folder / "store")
    store = open_store(folder / "store", verify=True)
    series = [rows for n, size in enumerate(sizes) for rows in _series(n, size)]
    assert np.diff(store.offsets).tolist() == series
    allowed = [
        end
        for low, high in itertools.pairwise(store.offsets.tolist())
        for end in range(low + spec.first_valid + window - 1, high - 1)
    ]
    if not allowed:
        with pytest.raises(ValueError, match=r"no window|window: an integer"):
            WindowLoader(store, window=window)
        return
    loader = WindowLoader(store, window=window, shuffle=True, return_index=True, batch_size=7)
    seen = []
    for x, y, ends in loader:
        for one, label, end in zip(x, y, ends.tolist(), strict=True):
            np.testing.assert_array_equal(one, store.features[end - window + 1 : end + 1])
            assert not one.isnan().any() and label.item() == store.labels[end]
            seen.append(end)
    assert sorted(seen) == allowed


def _series(number, rows):
    return [rows - rows // 2, rows // 2] if number % 3 == 2 else [rows]


def test_a_pass_is_resumed_as_over_one_table(tmp_path, files, build, expected):
    build()
    made, plain = (
        WindowLoader(store, window=3, shuffle=True, seed=7, batch_size=16, return_index=True)
        for store in (open_store(tmp_path / "store"), expected)
    )
    whole = [[part.tolist() for part in batch] for batch in plain]
    assert [[part.tolist() for part in batch] for batch in made] == whole
    batches = iter(made)
    next(batches), next(batches)
    state = made.state_dict()
    batches.close()
    again = WindowLoader(
        open_store(tmp_path / "store"), window=3, shuffle=True, seed=7, batch_size=16,
        return_index=True,
    )  # fmt: skip
    again.load_state_dict(state)
    assert [[part.tolist() for part in batch] for batch in again] == whole[2:]


def test_labels_are_those_asked_for(tmp_path, files, build, store_of, assert_same, expected, spec):
    labels = {"horizon": 3, "min_volume": 2_000.0, "min_move": 1e-4}
    build(**labels)
    same = store_of(tmp_path / "same", files, list(expected.symbols), **labels)
    assert_same(open_store(tmp_path / "store"), same)
    assert states(build(**labels)) == {"kept": 10}
    assert states(build(**{**labels, "horizon": 2})) == {"built": 10}


def test_what_is_there_is_not_built_again(tmp_path, files, build, expected, assert_same, write):
    build()
    before = content(tmp_path / "store")
    assert states(build()) == {"kept": 10}
    assert content(tmp_path / "store") == before
    # Written again alike, another time: that is another file.
    stat = files[3].stat()
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert states(build()) == {"copied": 9, "built": 1}
    assert_same(open_store(tmp_path / "store"), expected)
    # Other values, and a file more and a file fewer, so that rows move.
    write(files[4], synthetic_bars(1, 99))
    write(tmp_path / "bars" / "AAA.csv", synthetic_bars(31, 5))
    files[0].unlink()
    assert states(build()) == {"copied": 8, "built": 2}
    assert states(build(store=tmp_path / "new")) == {"built": 10}
    assert_same(open_store(tmp_path / "store"), open_store(tmp_path / "new"))


def test_another_spec_is_built_anew(tmp_path, files, build, spec):
    other = load_spec({"schema_version": "2.0", "features": [{"name": "close", "op": "IDENT"}]})
    build(spec=other)
    assert states(build()) == {"built": 10}
    with pytest.raises(StoreError, match="were built from spec"):
        open_store(tmp_path / "store", spec_hash=other.hash)
    assert open_store(tmp_path / "store", spec_hash=spec.hash).names == spec.names


def test_bad_files_are_named_and_the_others_built(tmp_path, files, build, expected, assert_same):
    good = {number: files[number].read_bytes() for number in (0, 3, 5)}
    files[0].write_bytes(good[0][:-100])
    pl.read_parquet(files[3]).drop("close").write_parquet(files[3])
    bars = pl.read_parquet(files[5])
    bars.with_columns(low=-bars["low"]).write_parquet(files[5])
    universe = build()
    assert states(universe) == {"built": 7, "failed": 3} and not universe.published
    assert list(reasons(universe)) == ["S00.parquet", "S03.parquet", "S05.parquet"]
    truncated, lacking, negative = reasons(universe).values()
    assert truncated.startswith("cannot be read as Parquet: ")
    assert lacking.startswith("missing close; found ")
    assert negative.startswith("row 1: column 'low' is -")
    with pytest.raises(StoreError, match="no feature store here"):
        open_store(tmp_path / "store")
    assert states(build()) == {"kept": 7, "failed": 3}
    # The second one's rows were known, so that nothing moves for it.
    files[3].write_bytes(good[3])
    assert states(build()) == {"kept": 7, "built": 1, "failed": 2}
    files[0].write_bytes(good[0])
    files[5].write_bytes(good[5])
    assert states(build()) == {"copied": 8, "built": 2}
    assert_same(open_store(tmp_path / "store"), expected)


def test_a_file_that_changed_since_an_unfinished_build_is_built_again(
    tmp_path, files, build, write, assert_same
):
    good = files[3].read_bytes()
    pl.read_parquet(files[3]).drop("close").write_parquet(files[3])
    assert states(build()) == {"built": 9, "failed": 1}
    files[3].write_bytes(good)
    write(files[6], synthetic_bars(55, 77))
    assert states(build()) == {"kept": 8, "built": 2}
    assert states(build(store=tmp_path / "new")) == {"built": 10}
    assert_same(open_store(tmp_path / "store"), open_store(tmp_path / "new"))


def test_a_store_stays_while_a_file_is_bad(tmp_path, files, build):
    build()
    meta = (tmp_path / "store" / "meta.json").read_bytes()
    features = open_store(tmp_path / "store").features.copy()
    files[6].write_text("nothing")
    assert states(build()) == {"copied": 9, "failed": 1}
    assert (tmp_path / "store" / "meta.json").read_bytes() == meta
    assert open_store(tmp_path / "store", verify=True).features.tobytes() == features.tobytes()
    # Left out, the others are enough.
    files[6].unlink()
    assert states(build()) == {"copied": 9}
    assert len(open_store(tmp_path / "store")) == len(features) - 55


def test_a_store_that_is_no_universe_stays_until_one_takes_its_place(
    tmp_path, files, build, store_of, expected, assert_same
):
    names = list(expected.symbols[:1])
    plain = store_of(tmp_path / "store", files[:1], names)
    before = plain.features.tobytes()
    files[6].write_text("nothing")
    build()
    build(horizon=2)
    assert open_store(tmp_path / "store", verify=True).features.tobytes() == before
    # The builds that never ended do not pile up.
    assert len(list((tmp_path / "store").glob("build-*"))) == 2
    build(horizon=3)
    assert len(list((tmp_path / "store").glob("build-*"))) == 2
    files[6].unlink()
    build()
    assert open_store(tmp_path / "store").symbols == tuple(
        name for name in expected.symbols if name != "S06"
    )
    assert not list((tmp_path / "store").glob("build-*"))


def test_rows_that_are_damaged_are_not_copied(tmp_path, files, build, expected, assert_same):
    build()
    store = open_store(tmp_path / "store")
    (file,) = (tmp_path / "store").glob("data-*/features.npy")
    at = file.stat().st_size - store.features[store.offsets[2] :].nbytes + 5
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte[0] ^ 1]))
    os.utime(files[0], ns=(1, 1))
    assert states(build()) == {"built": 2, "copied": 8}
    assert_same(open_store(tmp_path / "store"), expected)


def test_a_store_that_is_damaged_is_built_again(tmp_path, files, build, expected, assert_same):
    build()
    (file,) = (tmp_path / "store").glob("data-*/labels.npy")
    file.write_bytes(file.read_bytes()[:-1])
    assert states(build()) == {"built": 10}
    assert_same(open_store(tmp_path / "store"), expected)


def test_a_symbol_in_two_files_is_refused(tmp_path, files, build, write):
    write(tmp_path / "bars" / "symbol=S03" / "0.parquet", synthetic_bars(20, 1))
    universe = build(bars=tmp_path / "bars" / "**" / "*.*")
    (reason,) = reasons(universe).values()
    assert f"symbol 'S03' is in {files[3]} too" in reason
    assert not universe.published and not list((tmp_path / "store").glob("meta.json"))


def test_a_newer_version_is_neither_read_nor_replaced(tmp_path, files, build):
    build()
    (index,) = (tmp_path / "store").glob("data-*/index.json")
    index.write_text(json.dumps({**json.loads(index.read_text()), "version": 2}))
    before = content(tmp_path / "store")
    with pytest.raises(NewerStoreError, match="'version' is 2, this program reads 1; upgrade"):
        build()
    assert content(tmp_path / "store") == before


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "tfa-perf universe"}'])
def test_an_index_that_cannot_be_read_is_built_anew(tmp_path, files, build, text):
    build()
    (index,) = (tmp_path / "store").glob("data-*/index.json")
    index.write_text(text)
    assert states(build()) == {"built": 10}


def test_a_file_that_changes_meanwhile_is_told(tmp_path, files, build, write):
    def change(what, done, total):
        if (what, done) == ("built", 4):
            write(files[8], synthetic_bars(66, 77, symbols=2), symbols=True)

    universe = build(progress=change)
    (reason,) = reasons(universe).values()
    assert "has changed while the universe was built" in reason
    assert states(build()) == {"kept": 9, "built": 1}


def test_wrong_arguments_are_named(tmp_path, files, build):
    for options, words in (
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"min_volume": -1.0}, "min_volume must be a finite number"),
        ({"workers": 0}, "workers: a number from 1"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "workers: 2 is for local processes"),
    ):
        with pytest.raises(UsageError, match=words):
            build(**options)
    with pytest.raises(BarsError, match="no file matches"):
        build(bars=tmp_path / "*.pq")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file; give a folder"):
        build(store=tmp_path / "file")
    assert not (tmp_path / "store").exists()


def test_no_room_is_told_before_anything_is_built(tmp_path, files, build, monkeypatch):
    build()
    meta = (tmp_path / "store" / "meta.json").read_bytes()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(StoreError, match="cannot hold 484 rows of 4 features"):
        build(horizon=2)
    assert (tmp_path / "store" / "meta.json").read_bytes() == meta
    assert len(list((tmp_path / "store").glob("*-*"))) == 1

"""Files of bars that are empty, cut short, damaged or too large: an error of one line, no crash."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.data.bar_files import HEADER, ROWS, write
from tfa_perf.data import BarsError, load_bars, packed, parquet

ROOT = Path(__file__).parents[2]


def test_files_that_hold_no_table(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match=r"nowhere\.csv: no such file; give"):
        load_bars(tmp_path / "nowhere.csv")
    with pytest.raises(BarsError, match=r"\.xlsx: unknown file type; give one of \.csv"):
        load_bars(write(tmp_path, HEADER, name="bars.xlsx"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BarsError, match=r"no such file"):
        load_bars(tmp_path / "folder.csv")
    for name in ("empty.csv", "empty.csv.gz", "empty.parquet"):
        (tmp_path / name).touch()
        with pytest.raises(BarsError, match=rf"{name}: cannot be read as (CSV|Parquet): .*Write"):
            load_bars(tmp_path / name)
    with pytest.raises(BarsError, match=r"holds no rows; write at least one bar"):
        load_bars(write(tmp_path, HEADER, "", ""))
    with pytest.raises(BarsError, match=r"cannot be read as CSV.* Line 4 has 7 fields, the header"):
        load_bars(write(tmp_path, HEADER, *ROWS[:2], ROWS[2] + ",7", ROWS[3]))
    (tmp_path / "latin.csv").write_bytes(f"{HEADER},x\n{ROWS[0]},caf\xe9\n".encode("latin-1"))
    with pytest.raises(BarsError, match=r"cannot be read as CSV: .*utf-8.* as UTF-8 text"):
        load_bars(tmp_path / "latin.csv")
    zipped = gzip.compress(("\n".join([HEADER, *ROWS])).encode() * 1000)
    (tmp_path / "cut.csv.gz").write_bytes(zipped[: len(zipped) // 2])
    with pytest.raises(BarsError, match=r"cannot be read as CSV"):
        load_bars(tmp_path / "cut.csv.gz")


def test_a_parquet_file_cut_short(tmp_path: Path) -> None:
    pl.read_csv(write(tmp_path, HEADER, *ROWS)).write_parquet(tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    for length in (0, 3, len(content) // 2, len(content) - 9, len(content) - 1):
        (tmp_path / "b.parquet").write_bytes(content[:length])
        with pytest.raises(BarsError, match=r"b\.parquet: cannot be read as Parquet: .*Write the"):
            load_bars(tmp_path / "b.parquet")


def bomb(path: Path, rows: int) -> None:
    """A Parquet file of a few kB whose columns hold that many equal values."""
    same = [pl.repeat(1.0, rows).alias(name) for name in HEADER.split(",")]
    pl.LazyFrame({"x": [1]}).select(same).sink_parquet(path, compression="zstd")


def test_parquet_that_needs_more_memory_than_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(tmp_path / "b.parquet", 20_000_000)
    assert (tmp_path / "b.parquet").stat().st_size < 1 << 20
    monkeypatch.setattr(parquet, "available_bytes", lambda: 1 << 30)
    with pytest.raises(BarsError, match=r"b\.parquet: cannot be read .*it ended the process that"):
        load_bars(tmp_path / "b.parquet")


def test_a_reader_that_crashes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "crash.py"
    crashing.write_text(
        "import os, sys\nprint('why', file=sys.stderr)\nsys.stderr.flush()\nos.abort()"
    )
    monkeypatch.setattr(parquet, "_SCRIPT", crashing)
    (tmp_path / "b.parquet").touch()
    with pytest.raises(BarsError, match=r"ended the process that read it \(SIGABRT: why\)\. Write"):
        load_bars(tmp_path / "b.parquet")


def test_a_reader_that_raises_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raising = tmp_path / "raise.py"
    raising.write_text("import nothing_of_that_name")
    monkeypatch.setattr(parquet, "_SCRIPT", raising)
    (tmp_path / "b.parquet").touch()
    with pytest.raises(BarsError, match=r"exit code 1: ModuleNotFoundError: .*nothing_of_that"):
        load_bars(tmp_path / "b.parquet")


def test_packages_that_are_on_the_path_by_the_environment_alone(tmp_path: Path) -> None:
    """As on clusters, and after ``pip install --target``."""
    plain = sys._base_executable  # type: ignore[attr-defined]
    without = subprocess.run([plain, "-I", "-c", "import polars"], capture_output=True)
    if not without.returncode:
        pytest.skip("every interpreter here has polars")
    path = write(tmp_path, HEADER, *ROWS)
    pl.read_csv(path).write_parquet(tmp_path / "b.parquet")
    packages = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "kernels")]
    code = "import sys; from tfa_perf.data import load_bars; print(len(load_bars(sys.argv[1])))"
    lengths = [
        subprocess.run(
            [plain, "-c", code, str(file)], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(packages)},
        ).stdout
        for file in (path, tmp_path / "b.parquet")
    ]  # fmt: skip
    assert lengths[0] == lengths[1] == f"{len(ROWS)}\n"


def test_packed_csv_that_there_is_no_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join([HEADER, *ROWS] + [""] * 1_000_000).encode()
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text))
    assert len(load_bars(tmp_path / "b.csv.gz")) == len(ROWS)
    monkeypatch.setattr(packed, "available_bytes", lambda: 7_000_000)
    with pytest.raises(BarsError, match=r"unpacks to more than 875,000 bytes, for which there is"):
        load_bars(tmp_path / "b.csv.gz")
    (tmp_path / "b.csv").write_bytes(zlib.compress(text))
    with pytest.raises(BarsError, match=r"packed, but not by gzip; write \.csv or \.csv\.gz"):
        load_bars(tmp_path / "b.csv")


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["b.parquet", "b.csv", "b.csv.gz"])
def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path, name: str) -> None:
    # Parquet is read by a process of its own.
    damaged(tmp_path, name, 100 if name == "b.parquet" else 2000)


@pytest.mark.parametrize("name", ["b.parquet", "b.csv", "b.csv.gz"])
def test_damage_in_some_places(tmp_path: Path, name: str) -> None:
    damaged(tmp_path, name, 6 if name == "b.parquet" else 30)


def damaged(folder: Path, name: str, times: int) -> None:
    path, rng = folder / name, random.Random(5)
    close = 100 + np.cumsum(np.random.default_rng(0).integers(-9, 10, 2000)) / 100
    columns = dict.fromkeys(HEADER.split(","), close)
    frame = pl.DataFrame({**columns, "ts": 1_600_000_000 + np.arange(2000), "symbol": "A"})
    table = path.with_suffix("") if name.endswith("gz") else path
    frame.write_parquet(path) if name == "b.parquet" else frame.write_csv(table)
    whole = gzip.compress(table.read_bytes()) if name.endswith("gz") else path.read_bytes()
    refused = 0
    for _ in range(times):
        content = bytearray(whole)
        # The end, where Parquet says what it holds, as often as all the rest.
        at = rng.randrange(len(content) - 1500 if rng.random() < 0.5 else 0, len(content))
        kind = rng.randrange(4)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            del content[at : at + rng.randrange(1, 200)]
        else:
            size = 1 if kind == 2 else 100
            content[at : at + size] = rng.randbytes(size)
        path.write_bytes(content)
        try:
            load_bars(path)
        except BarsError as error:
            refused += 1
            assert name in str(error) and "\n" not in str(error)
    assert refused


def test_an_error_stays_on_one_line(tmp_path: Path) -> None:
    frame = pl.read_csv(write(tmp_path, HEADER, *ROWS)).rename({"close": "clo\nse"})
    frame.write_parquet(tmp_path / "b.parquet")
    with pytest.raises(BarsError, match=r"missing close; found .*'clo\\nse'"):
        load_bars(tmp_path / "b.parquet")

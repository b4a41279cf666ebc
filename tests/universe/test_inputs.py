import pytest

from tfa_perf.data import BarsError
from tfa_perf.universe.inputs import default_symbol, find_inputs


@pytest.mark.parametrize(
    ("file", "symbol"),
    [
        ("/bars/SPY.parquet", "SPY"),
        ("/bars/BRK.B.pq", "BRK.B"),
        ("/bars/es.CSV.gz", "es"),
        ("/bars/symbol=QQQ/part-0.parquet", "QQQ"),
        ("/bars/symbol=QQQ/year=2024/0.parquet", "QQQ"),
    ],
)
def test_a_file_names_its_symbol(file, symbol):
    assert default_symbol(file) == symbol


def test_patterns_find_each_file_once_in_the_order_of_paths(tmp_path, monkeypatch):
    for name in ("b.csv", "a.parquet", "deep/er/c.parquet", "[x].parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    found = find_inputs(["**/*.parquet", "b.csv", str(tmp_path / "a.parquet"), "[x].parquet"])
    expected = ["[x].parquet", "a.parquet", "b.csv", "deep/er/c.parquet"]
    assert found == [str(tmp_path / name) for name in expected]


@pytest.mark.parametrize("pattern", ["*.parquet", "none.csv", ".", ""])
def test_a_pattern_without_files_is_named(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(BarsError, match="no file matches"):
        find_inputs(["a.csv", pattern])
    with pytest.raises(BarsError, match="no file is named"):
        find_inputs([])

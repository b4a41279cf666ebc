import pytest

from tfa_perf.train.csv_log import COLUMNS, CsvLog, LogError


def row(step):
    return [1, step, 0.5, 1e-3, 0.7, 0.69, 0.5, 0.01]


def test_a_resumed_run_leaves_the_rows_of_one_that_was_not_interrupted(
    tmp_path, tiny_config, fit, logged
):
    config = tiny_config("train.epochs=3", "train.schedule=cosine")
    text = fit(config, tmp_path / "whole")
    whole = logged(tmp_path / "whole")
    assert [int(r["epoch"]) for r in whole] == [1, 2, 3]
    steps = [int(r["step"]) for r in whole]
    # Killed after the second epoch's checkpoint, with a row that the checkpoint knows nothing of.
    fit(config, tmp_path / "cut", max_steps=steps[1])
    log = tmp_path / "cut" / "log.csv"
    CsvLog(log, after=steps[1]).write(*row(steps[2]))
    with log.open("a") as file:
        file.write("3,1")
    fit(config, tmp_path / "cut", resume=True)
    for a, b in zip(logged(tmp_path / "cut"), whole, strict=True):
        assert float(a.pop("seconds")) > 0 < float(b.pop("seconds"))
        assert a == b
    for r in whole:
        assert f"val loss {float(r['val_loss']):.5f}  AUC {float(r['val_auc']):.4f}" in text
    assert 0 < float(whole[1]["learning_rate"]) < float(whole[0]["learning_rate"]) < 1e-3


def test_a_new_run_starts_the_file_anew(tmp_path, logged):
    path = tmp_path / "new" / "log.csv"
    CsvLog(path).write(*row(5))
    assert len(logged(path.parent)) == 1
    CsvLog(path)
    # As mktemp makes one.
    path.write_text("")
    CsvLog(path)
    assert path.read_text().split() == [",".join(COLUMNS)]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "after"),
    [
        (b"date,open,high\n1,2,3\n", 3),
        (b"date,open,high\n1,2,3\n", 0),
        # A model, say: no text at all.
        (b"PK\x03\x04\x00\xff\xfe\n" * 100, 3),
        (b"PK\x03\x04\x00\xff\xfe\n" * 100, 0),
        (b"", 3),
        (f"{','.join(COLUMNS)}\nx\ny\n".encode(), 3),
        (f"{','.join(COLUMNS)}\n\x00\n\xff\n".encode("latin-1"), 3),
    ],
)
def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path, content, after):
    path = tmp_path / "bars.csv"
    path.write_bytes(content)
    with pytest.raises(LogError, match=r"bars\.csv.*training log"):
        CsvLog(path, after=after)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_row_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="8 are needed, got 2"):
        CsvLog(tmp_path / "log.csv").write(1, 2)

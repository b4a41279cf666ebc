"""``tfa-perf features``: what it prints, its exit codes, and what is left when it is ended."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfa_kernels import load_spec
from tfa_perf.cli import main
from tfa_perf.data import StoreError, open_store, synthetic_bars
from tfa_perf.universe import build_universe


@pytest.fixture
def command(tmp_path, monkeypatch, plain_spec):
    (tmp_path / "spec.json").write_text(json.dumps(plain_spec))
    monkeypatch.chdir(tmp_path)
    return ["features", "--bars", "bars/*", "--out", "store", "--spec", "spec.json"]


def test_the_table_and_the_exit_code(files, command, capsys):
    text = files[1].read_text()
    files[1].write_text(text.replace("close", "clos"))
    assert main([*command, "--workers", "1"]) == 1
    printed = capsys.readouterr()
    assert "10 files: 9 built, 1 failed; 444 rows x 4 features" in printed.out
    assert f"\n{files[1]}: missing close; found " in printed.out
    assert printed.err.startswith("tfa-perf: failed: 1 of 10 files; mend ")
    assert printed.err.count("\n") == 1
    files[1].write_text(text)
    assert main([*command, "--workers", "1"]) == 0
    printed = capsys.readouterr()
    store = Path("store").absolute()
    assert printed.out == (
        f"10 files: 1 built, 9 copied; 484 rows x 4 features, 13 series\nwrote {store}\n"
    )
    assert printed.err == ""
    assert open_store("store", verify=True).first_valid == 8


def test_json_alone(files, command, capsys):
    files[3].write_bytes(b"")
    assert main([*command, "--workers", "1", "--json", "--horizon", "2"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert {k: content[k] for k in ("store", "published", "rows", "features")} == {
        "store": str(Path("store").absolute()), "published": False, "rows": 451, "features": 4,
    }  # fmt: skip
    assert content["partitions"][2] == {
        "file": str(files[2]), "state": "built", "rows": 71, "symbols": 2, "reason": None,
    }  # fmt: skip
    assert content["partitions"][3]["state"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bars", "none/*"], "bars: no file matches 'none/*'"),
        (["--spec", "tfa54"], "no bundled spec of that name; bundled: tfa55"),
        (["--min-move", "-1"], "min_move must be a finite number"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, command, capsys, arguments, words):
    assert main([*command, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and words in printed.err
    assert not Path("store").exists()


WITHOUT_DISTRIBUTED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("distributed", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from tfa_perf.universe import UsageError, build_universe
universe = build_universe("bars/*", "store", "spec.json")
try:
    build_universe("bars/*", "store", "spec.json", workers=2)
except UsageError as error:
    print(len(universe.partitions), universe.published, error)
"""


def test_without_dask_or_torch_one_process_builds(files, command):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DISTRIBUTED], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout == (
        "10 True workers: the package distributed is needed; pip install 'tfa-perf[cluster]', or "
        "leave the option out for one process\n"
    )


def in_session(leader):
    """Processes that ``leader`` has started and that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader != int(stat.parent.name) and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.nightly)],
)
def test_ended_in_the_middle_it_leaves_no_store_and_goes_on(
    tmp_path, write, store_of, assert_same, command, number, code
):
    pytest.importorskip("distributed")
    first = write(tmp_path / "bars/S00.parquet", synthetic_bars(2_000, 3))
    files = [first, *(tmp_path / f"bars/S{n:02}.parquet" for n in range(1, 24))]
    for file in files[1:]:
        shutil.copyfile(first, file)
    process = subprocess.Popen(
        [sys.executable, "-m", "tfa_perf", *command, "--workers", "2"],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while process.poll() is None and len(list(Path("store").glob("build-*/shards/*.json"))) < 4:
        time.sleep(0.01)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code, printed
    if code == 130:
        assert printed == "tfa-perf: interrupted\n"
    # Workers end when they find their parent gone.
    for _ in range(100):
        if not in_session(process.pid):
            break
        time.sleep(0.1)
    assert in_session(process.pid) == []
    with pytest.raises(StoreError, match="no feature store here"):
        open_store("store")
    universe = build_universe("bars/*", "store", "spec.json", workers=1)
    states = [each.state for each in universe.partitions]
    assert 4 <= states.count("kept") < 24 and set(states) == {"kept", "built"}
    names = [file.stem for file in files]
    expected = store_of(tmp_path / "expected", files, names, load_spec("spec.json"))
    assert_same(open_store("store"), expected)

import json
from pathlib import Path

import pytest

from benchmarks import saved
from benchmarks.machine import fingerprint
from benchmarks.reference import reference
from benchmarks.saved import Kind

ROOT = Path(__file__).resolve().parents[2]
KIND = Kind("default", False)
TESTS = {"a", "b"}


@pytest.fixture
def save(tmp_path):
    def write(name, folder="Linux-CPython-3.11-64bit", machine=None, **changes):
        run = {
            "size": "default",
            "one_side": False,
            "complete": True,
            "tests": sorted(TESTS),
            "regressed": False,
            "fingerprint": {**fingerprint(), **(machine or {})},
            **changes,
        }
        path = tmp_path / folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"benchmarks": [], "tfa_perf": run}))
        return path

    return write


@pytest.fixture
def choose(tmp_path):
    return lambda kind=KIND, elsewhere=True, selected=TESTS: saved.partner(
        tmp_path, tmp_path, kind, selected, elsewhere=elsewhere
    )


def test_the_newest_complete_run_of_this_machine(save, choose):
    save("0001_a")
    expected = save("0002_b")
    save("0003_c", complete=False, tests=[])
    save("0004_d", regressed=True)
    save("0005_e", machine={"cpu": "another"})
    save("0006_f", machine={"torch threads": "64"})
    save("0007_g", machine={"gpu": "NVIDIA H200"})
    save("0008_h", size="small")
    save("0009_i", one_side=True)
    assert choose() == expected


def test_the_newest_run_that_holds_what_is_selected(save, choose):
    whole = save("0001_a")
    part = save("0002_b", complete=False, tests=["a"])
    save("0003_c", complete=False, tests=[])
    assert choose(selected={"a"}) == part
    assert choose(selected={"b"}) == whole
    assert choose() == whole


def test_the_newest_whole_run_where_a_test_is_new(save, choose):
    save("0001_a")
    whole = save("0002_b")
    save("0003_c", complete=False, tests=["a"])
    assert choose(selected={"a", "b", "new"}) == whole
    assert choose(selected={"new"}) is None


def test_size_and_sides_have_to_agree(save, choose):
    save("0001_a")
    small, alone = save("0002_b", size="small"), save("0003_c", one_side=True)
    assert choose(Kind("small", False)) == small
    assert choose(Kind("default", True)) == alone
    assert choose(Kind("large", False)) is None


def test_files_of_others_and_damaged_ones_are_passed_over(save, choose, tmp_path):
    expected = save("0001_a")
    folder = expected.parent
    (folder / "0002_b.json").write_text('{"benchmarks": [')
    (folder / "0003_c.json").write_text('{"benchmarks": []}')
    (folder / "0004_d.json").write_text('{"tfa_perf": null}')
    (folder / "0005_e.json").write_bytes(b"\xff\xfe")
    (folder / "0006_f.json").write_text("[]")
    assert choose() == expected


def test_a_reference_where_this_machine_has_no_run(save, choose):
    gpu = save("0000_reference_h200", folder=".", machine={"gpu": "NVIDIA H200", "cpu": "x"})
    cpu = save("0000_reference_cpu", folder=".", machine={"gpu": "none", "cpu": "x"})
    assert choose() == (cpu if fingerprint()["gpu"] == "none" else gpu)
    assert choose(elsewhere=False) is None
    assert choose(Kind("small", False)) is None
    expected = save("0001_a")
    assert choose() == choose(elsewhere=False) == expected


def test_whether_a_run_is_of_this_machine(save):
    here = json.loads(save("0001_a").read_text())
    there = json.loads(save("0002_b", machine={"cpu": "another"}).read_text())
    assert not saved.is_elsewhere(here)
    assert saved.is_elsewhere(there)
    assert saved.is_elsewhere({"benchmarks": []})


def test_a_reference_has_neither_single_times_nor_names():
    run = {
        "machine_info": {"fingerprint": fingerprint()},
        "commit_info": {"branch": "mine"},
        "benchmarks": [{"fullname": "a", "stats": {"median": 1.0, "data": [1.0, 1.0]}}],
        "tfa_perf": {
            "complete": True,
            "one_side": False,
            "rows": [{"name": "a", "before": [1.0], "after": [2.0], "before_s": 1.0}],
        },
    }
    made = reference(run)
    assert made["benchmarks"] == [{"fullname": "a", "stats": {"median": 1.0}}]
    assert made["tfa_perf"]["rows"] == [{"name": "a", "before": [], "after": [], "before_s": 1.0}]
    assert "mine" not in json.dumps(made)
    for lacking in ({"complete": False}, {"one_side": True}):
        with pytest.raises(ValueError, match="not a complete run of both sides"):
            reference({**run, "tfa_perf": {**run["tfa_perf"], **lacking}})


def test_shipped_references_are_whole_and_name_no_computer():
    shipped = sorted((ROOT / ".benchmarks").glob("0000_reference*.json"))
    assert shipped
    for path in shipped:
        run = json.loads(path.read_text())
        assert run["tfa_perf"]["complete"]
        assert run["tfa_perf"]["size"] == "default"
        assert len(saved.rows_of(run)) >= 8
        assert "node" not in run["machine_info"]
        assert run["commit_info"] == {}

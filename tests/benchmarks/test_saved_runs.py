"""``pytest benchmarks`` as it is run, with work whose times are planted."""

import json

import pytest


def row(run, name="planted"):
    (found,) = [row for row in run["tfa_perf"]["rows"] if row["name"] == name]
    return found


def ids(run):
    return sorted(bench["name"] for bench in run["benchmarks"])


def test_a_plain_run_shows_both_sides_and_is_saved_with_its_data(first_run):
    assert first_run.status == 0, first_run.text
    assert ids(first_run.saved) == ["test_planted[after]", "test_planted[before]", "test_steady"]
    assert {bench["group"] for bench in first_run.saved["benchmarks"]} == {"planted", "steady"}
    assert all(bench["stats"]["data"] for bench in first_run.saved["benchmarks"])
    ours = first_run.saved["tfa_perf"]
    assert ours["complete"] and not ours["regressed"]
    assert ours["fingerprint"] == first_run.saved["machine_info"]["fingerprint"]
    assert "hz_actual" not in json.dumps(first_run.saved["machine_info"])
    found = row(first_run.saved)
    assert found["before"] == pytest.approx([2.0] * 12) and found["after"] == pytest.approx(
        [1.0] * 12
    )
    assert found["ratio"]["median"] == pytest.approx(2)
    assert found["floor"]["median"] == pytest.approx(1)
    assert found["samples_per_s"] == pytest.approx(10)
    for cell in ("2.00x [2.00, 2.00]", "[1.000, 1.000]", "faster", "10 /s"):
        assert cell in first_run.text
    # The last table is ours.
    assert first_run.text.index("before and after: medians") > first_run.text.index("Outliers")


def test_a_slowdown_just_over_10_percent_closes_a_gate_of_10_and_closes_it_again(measured):
    gate = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    slow = measured.run(*gate, after=1.101)
    assert slow.status != 0
    assert "Performance has regressed" in slow.text
    assert "test_planted[after]" in slow.text.split("Performance has regressed")[1]
    assert "1.82x" in slow.text, "the table is wanted all the more"
    assert slow.saved["tfa_perf"]["regressed"]
    # The slow run is not what the next one is held against.
    again = measured.run(*gate, after=1.101)
    assert again.status != 0
    assert "Performance has regressed" in again.text


def test_a_slowdown_just_under_10_percent_passes_a_gate_of_10(measured):
    gate = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    ended = measured.run(*gate, after=1.099)
    assert ended.status == 0, ended.text
    assert "2.00x [2.00, 2.00]" in ended.text, "the ratio of the partner"
    assert row(ended.saved)["ratio"]["median"] == pytest.approx(2 / 1.099)


def test_a_wrong_output_is_a_failure_without_a_number(measured):
    ended = measured.run("--benchmark-compare", **{"output of after": 41})
    assert ended.status == 1
    assert "planted: failed or broken off, so there is no number" in ended.text
    assert ids(ended.saved) == ["test_steady"]
    assert [row["name"] for row in ended.saved["tfa_perf"]["rows"]] == ["steady"]
    assert not ended.saved["tfa_perf"]["complete"]
    times = ended.text[ended.text.index("Name (time") : ended.text.index("Legend:")]
    assert "test_steady" in times
    assert "test_planted" not in times


def test_what_fails_after_it_was_timed_has_no_number_either(measured):
    ended = measured.run(steady=0)
    assert ended.status == 1
    assert ids(ended.saved) == ["test_planted[after]", "test_planted[before]"]
    assert [row["name"] for row in ended.saved["tfa_perf"]["rows"]] == ["planted"]
    ours = ended.text[ended.text.index("before and after: medians") :]
    assert "steady: failed or broken off, so there is no number" in ours
    assert "others and ours" not in ours
    # Nor is the rest of that run what a later one is compared with.
    later = measured.run("--benchmark-compare", "-k", "planted")
    assert "test_planted[after] (0001_" in later.text


def test_part_of_the_suite_is_compared_with_the_newest_run_that_holds_it(suite):
    before = suite.run("--impl", "before", "-k", "planted")
    assert before.status == 0, before.text
    assert not before.saved["tfa_perf"]["complete"]
    # The same test selected in another way.
    after = suite.run("benchmarks/test_planted.py", "--impl", "after", "--benchmark-compare")
    assert after.status == 0, after.text
    assert ids(after.saved) == ["test_planted"]
    assert "test_planted (0001_" in after.text
    assert "2.00x [2.00, 2.00]" in after.text
    # The other test is in neither run.
    gate = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    more = suite.run("--impl", "after", *gate)
    assert more.status == 4
    assert "with --size default, one side and all of the selected benchmarks" in more.text


def test_one_side_and_then_the_other_under_the_same_ids(measured):
    # The second option takes back the first, which may stand in a configuration.
    before = measured.run("--impl", "before", "--benchmark-disable", "--benchmark-enable")
    assert before.status == 0, before.text
    assert ids(before.saved) == ["test_planted", "test_steady"]
    assert row(before.saved)["before"] == pytest.approx([2.0] * 6)
    assert row(before.saved)["after"] == [], "the other side did not run"
    assert row(before.saved, "steady")["before"] == pytest.approx([3.0] * 10)
    after = measured.run("--impl", "after", "--benchmark-compare")
    assert after.status == 0, after.text
    assert ids(after.saved) == ["test_planted", "test_steady"]
    # pytest-benchmark's table has both, and so has ours.
    assert "test_planted (NOW)" in after.text
    assert "test_planted (0002_" in after.text
    assert "2.00x [2.00, 2.00]" in after.text
    assert ", before" in after.text


def test_a_fresh_clone_compares_with_the_run_of_another_machine(measured):
    measured.of_another_machine()
    ended = measured.run("--benchmark-compare", after=4.0)
    assert ended.status == 0, ended.text
    assert "compared with another machine: read ratios only" in ended.text
    assert "reference (other machine)" in ended.text
    assert "2.00x [2.00, 2.00]" in ended.text and "0.50x [0.50, 0.50]" in ended.text
    assert "slower" in ended.text, "losses stay"


def test_the_gate_refuses_the_times_of_another_machine(measured):
    measured.of_another_machine()
    ended = measured.run("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    assert ended.status == 4
    assert "there is no run on this machine with --size default" in ended.text


def test_the_after_side_against_itself_claims_nothing_and_is_not_saved(suite):
    ended = suite.run("--aa", "--benchmark-json=out.json")
    assert ended.status == 0, ended.text
    assert ended.saved is None
    run = json.loads((suite.folder / "out.json").read_text())
    assert {row["verdict"] for row in run["tfa_perf"]["rows"]} == {"no change detected"}
    assert not run["tfa_perf"]["complete"]


@pytest.mark.parametrize(
    ("option", "outcome"),
    [("--benchmark-disable", "3 passed"), ("--benchmark-skip", "3 skipped")],
)
def test_options_that_turn_timing_off(suite, option, outcome):
    ended = suite.run(option)
    assert ended.status == 0, ended.text
    assert outcome in ended.text
    assert ended.saved is None
    assert "medians" not in ended.text

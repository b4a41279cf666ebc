from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile import flame, steps
from tfa_perf.profile.flame import build_tree, collapsed, speedscope
from tfa_perf.profile.samples import MAIN, Frame, Sample, read_samples
from tfa_perf.profile.stacks import (
    OUTSIDE_STEPS,
    Stack,
    Window,
    phase_shares,
    root_at_phases,
    short_path,
)

names = st.sampled_from(["forward", "backward", "f (a.py:1)", "g (b.py:2)", "<module> (c.py)"])
stacks = st.lists(
    st.builds(
        Stack,
        thread=st.sampled_from([MAIN, "loader"]),
        frames=st.lists(names, min_size=1, max_size=5).map(tuple),
        weight=st.floats(0.001, 5.0),
    ),
    min_size=1,
    max_size=30,
)

HERE = str(Path(flame.__file__).parent)
APP = "/nowhere/app.py"


def main_sample(function: str, weight: float = 0.01, file: str = APP) -> Sample:
    launcher = Frame("main", f"{HERE}/_target.py", 9)
    return Sample(MAIN, (launcher, Frame("<module>", APP, 1), Frame(function, file, 2)), weight)


@given(stacks)
def test_collapsed_keeps_every_second(found: list[Stack]) -> None:
    lines = collapsed(found).splitlines()
    counted: dict[str, int] = {}
    for line in lines:
        frames, count = line.rsplit(" ", 1)
        assert frames not in counted
        counted[frames] = int(count)
    for stack, microseconds in counted.items():
        weight = sum(s.weight for s in found if ";".join(s.frames) == stack)
        assert abs(microseconds - 1e6 * weight) <= 1
    assert len(counted) == len({s.frames for s in found})


@given(stacks)
def test_tree_keeps_every_second(found: list[Stack]) -> None:
    root = build_tree((s.frames, s.weight) for s in found)
    assert math.isclose(root.total, sum(s.weight for s in found))

    def walk(node: flame.Node, prefix: tuple[str, ...]) -> None:
        below = sum(s.weight for s in found if s.frames[: len(prefix)] == prefix)
        assert math.isclose(node.total, below)
        for name, child in node.children.items():
            walk(child, (*prefix, name))

    walk(root, ())


@given(stacks)
def test_speedscope_document_is_valid_and_reads_back(found: list[Stack]) -> None:
    document = json.loads(json.dumps(speedscope(found, "run")))
    assert document["$schema"] == flame.SPEEDSCOPE_SCHEMA
    frames = document["shared"]["frames"]
    seconds = 0.0
    for profile in document["profiles"]:
        assert profile["type"] == "sampled"
        assert profile["unit"] == "seconds"
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= i < len(frames) for sample in profile["samples"] for i in sample)
        assert math.isclose(profile["endValue"] - profile["startValue"], sum(profile["weights"]))
        seconds += sum(profile["weights"])
    assert math.isclose(seconds, sum(s.weight for s in found))
    assert 0 <= document["activeProfileIndex"] < len(document["profiles"])
    if any(s.thread == MAIN for s in found):
        first = document["profiles"][0]
        roots = {frames[sample[0]]["name"] for sample in first["samples"]}
        assert roots == {s.frames[0] for s in found if s.thread == MAIN}


def test_shares_are_of_the_main_thread_in_the_steps() -> None:
    found = [
        Stack(MAIN, ("forward", "f"), 3.0),
        Stack(MAIN, ("other",), 1.0),
        Stack(MAIN, (OUTSIDE_STEPS, "other"), 9.0),
        Stack("loader", ("thread: loader",), 9.0),
    ]
    assert phase_shares(found) == {"forward": 0.75, "other": 0.25}
    assert phase_shares([]) == {}


def test_window_follows_the_marks_although_samples_were_lost() -> None:
    steps_file = steps.__file__
    samples = [
        *[main_sample("start")] * 10,
        *[main_sample("mark_after_warm_up", file=steps_file)] * 3,
        *[main_sample("train")] * 40,
        *[main_sample("save")] * 10,
        *[main_sample("mark_end", file=steps_file)] * 3,
        *[main_sample("finalizer")] * 20,
    ]
    # By the clock, start-up took half of the run and the steps four fifths of the rest.
    rooted = root_at_phases(samples, Window(0.5, 0.9, "mark_after_warm_up"))
    inside = [s for s in rooted if s.frames[0] != OUTSIDE_STEPS]
    assert len(inside) == 40
    assert {s.frames for s in inside} == {("other", "<module> (app.py)", "train (app.py)")}
    assert math.isclose(sum(s.weight for s in rooted), sum(s.weight for s in samples))


def test_launcher_hook_and_pass_through_frames_are_not_shown() -> None:
    wrappers = Path(HERE, "wrappers.py")
    text = wrappers.read_text().splitlines()
    fires = next(i for i, line in enumerate(text, 1) if 'with phase("forward")' in line) + 1
    module = "/x/site-packages/torch/nn/modules/module.py"
    sample = Sample(
        MAIN,
        (
            Frame("_run_module_as_main", "<frozen runpy>", 198),
            Frame("main", f"{HERE}/_target.py", 170),
            Frame("<module>", APP, 30),
            Frame("train", APP, 20),
            Frame("_forward.<locals>.forward", str(wrappers), fires),
            Frame("Module._wrapped_call_impl", module, 1),
            Frame("Module._call_impl", module, 1),
            Frame("Net.forward", APP, 5),
        ),
        0.01,
    )
    launcher_only = Sample(MAIN, sample.frames[:2], 0.01)
    other = Sample("tqdm", (Frame("run", "/usr/lib/python3.11/threading.py", 3),), 0.01)
    assert [s.frames for s in root_at_phases([launcher_only, sample, other])] == [
        ("forward", "train (app.py)", "Net.forward (app.py)"),
        ("thread: tqdm", "run (threading.py)"),
    ]


def test_reading_names_the_main_thread(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    profile = {"type": "sampled", "unit": "seconds", "samples": [[1, 0], []], "weights": [1, 2]}
    data = {
        "shared": {
            "frames": [{"name": "f", "file": "a.py", "line": 3}, {"name": "thread (7)", "file": ""}]
        },
        "profiles": [
            {**profile, "name": 'Thread 7 "MainThread"'},
            {**profile, "name": 'Thread 8 "w"'},
        ],
    }
    path.write_text(json.dumps(data))
    assert read_samples(path)[:2] == [
        Sample(MAIN, (Frame("f", "a.py", 3),), 1),
        Sample(MAIN, (), 2),
    ]
    assert {s.thread for s in read_samples(path, main_id=8)} == {MAIN, "MainThread"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"shared": {"frames": []}, "profiles": [{"name": "x"}]}']
)
def test_reading_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_samples(path)


@pytest.mark.parametrize("name", ['Thread 140243 "MainThread"', 'Thread 0x7FCD2A "MainThread"'])
def test_main_thread_is_known_by_decimal_and_hexadecimal_ids(name, tmp_path):
    profile = {"name": name, "type": "sampled", "samples": [[0]], "weights": [0.01]}
    frames = [{"name": "f", "file": "f.py", "line": 1}]
    path = tmp_path / "stacks.json"
    path.write_text(json.dumps({"shared": {"frames": frames}, "profiles": [profile]}))
    assert [sample.thread for sample in read_samples(path)] == ["main"]
    main_id = int(name.split()[1], 0)
    assert [sample.thread for sample in read_samples(path, main_id)] == ["main"]
    assert [sample.thread for sample in read_samples(path, main_id + 1)] == ["main"]


def test_torn_frames_are_dropped_and_the_rest_of_the_stack_kept(tmp_path):
    frames = [
        {"name": "main", "file": "a.py", "line": 1},
        {"name": "\0\0", "file": "a.py", "line": 2},
        {"name": "f", "file": "no attribute '__path__'\0_", "line": 3},
        {"name": "g", "file": "a.py", "line": 4},
    ]
    profile = {
        "name": 'Thread 1 "MainThread"',
        "type": "sampled",
        "samples": [[0, 1, 2, 3]],
        "weights": [0.01],
    }
    path = tmp_path / "stacks.json"
    path.write_text(json.dumps({"shared": {"frames": frames}, "profiles": [profile]}))
    samples = read_samples(path)
    assert [[frame.function for frame in sample.frames] for sample in samples] == [["main", "g"]]
    assert sum(stack.weight for stack in root_at_phases(samples)) == 0.01


def test_main_thread_without_its_name_is_known_by_its_id(tmp_path):
    profiles = [
        {"name": name, "type": "sampled", "samples": [[0]], "weights": [0.01]}
        for name in ("Thread 71", "Thread 70", 'Thread 72 "MainThread"')
    ]
    path = tmp_path / "stacks.json"
    frames = [{"name": "f", "file": "f.py", "line": 1}]
    path.write_text(json.dumps({"shared": {"frames": frames}, "profiles": profiles}))
    threads = [sample.thread for sample in read_samples(path, 70)]
    assert threads == ["thread 71", "main", "MainThread"]


def test_the_code_of_torch_s_graphs_has_the_same_name_in_every_run() -> None:
    for file in ("<eval_with_key>.7", "<eval_with_key>.13 from /lib/torch/fx/x.py:1738 in wrapped"):
        assert short_path(file) == "<eval_with_key>"
    assert short_path("<frozen runpy>") == "<frozen runpy>"

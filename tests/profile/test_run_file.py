from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.page import Run, write_page
from tfa_perf.profile.run_file import RunFile, RunFileError, StackTable, read_run, write_run
from tfa_perf.profile.sampler import ProfileResult, run_profiled
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import Stack

DOCS = Path(__file__).resolve().parents[2] / "docs" / "profile-format.md"


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProfileResult, Path]:
    """A real run of 40 steps with both samples and times."""
    folder = tmp_path_factory.mktemp("run")
    script = folder / "steps.py"
    script.write_text(
        "import time, torch\n"
        "w = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = torch.optim.SGD([w], lr=0.1)\n"
        "for _ in range(40):\n"
        "    loss = (w * w).sum()\n"
        "    loss.backward()\n"
        "    time.sleep(0.01)\n"
        "    optimizer.step()\n"
    )
    result = run_profiled([str(script), "--lr", "0.1"], folder / "out", sampler="inprocess")
    return result, folder / "out"


def test_reads_back_as_written_and_gives_the_page_again(
    profiled: tuple[ProfileResult, Path], tmp_path: Path
) -> None:
    result, folder = profiled
    run = read_run(folder)
    assert run == result.run == read_run(folder / "run.json")
    assert run.times == result.times
    assert run.name == "out"
    assert run.command[1:] == ["--lr", "0.1"]
    assert run.started < run.finished
    assert set(run.versions) >= {"tfa-perf", "python", "torch", "numpy"}
    assert run.times is not None
    assert run.times.blocks is not None
    assert len(run.times.blocks.wall_ns) == run.times.measured_steps == 35
    assert min(run.times.blocks.wall_ns) > 10e6
    seconds = sum(stack.weight for stack in result.stacks)
    assert sum(s.weight for s in run.samples.unpacked()) == pytest.approx(seconds, abs=1e-3)
    again = write_run(tmp_path, run)
    assert again.read_text() == (folder / "run.json").read_text()
    pages = [
        write_page(tmp_path / name, [Run.of(r)]).read_text()
        for name, r in (("a.html", run), ("b.html", result.run))
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("body", "sampler", "times", "stacks"),
    [
        ("import time; time.sleep(0.3)", "none", True, False),
        ("import os, time; time.sleep(0.5); os._exit(7)", "pyspy", False, True),
        ("import os; os._exit(7)", "none", False, False),
    ],
)
def test_written_with_timers_alone_stacks_alone_or_neither(
    body: str,
    sampler: str,
    times: bool,
    stacks: bool,
    script: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    run_profiled([str(script(body))], tmp_path / "o", sampler=sampler)  # type: ignore[arg-type]
    run = read_run(tmp_path / "o")
    assert (run.times is not None, bool(run.samples.stacks)) == (times, stacks)
    assert bool(run.rows) == times
    assert write_page(tmp_path / "p.html", [Run.of(run)]).exists()


def test_config_of_our_trainer_is_kept() -> None:
    from tfa_perf.profile.command_line import parse

    options, _ = parse(["--config", "tuned", "--set", "train.lr=2", "--bars", "synthetic:500"])
    assert options.settings["train"]["lr"] == 2
    assert options.settings["data"]["bars"] == "synthetic:500"
    assert json.loads(json.dumps(options.settings)) == options.settings


frames = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple)
stacks = st.builds(
    Stack, st.sampled_from([MAIN, "w"]), frames, st.integers(1, 10**6).map(lambda n: n / 1000)
)


@given(st.lists(stacks, max_size=40))
def test_equal_stacks_are_summed_and_none_is_lost(found: list[Stack]) -> None:
    table = StackTable.model_validate_json(StackTable.of(found).model_dump_json())
    summed: dict[tuple[str, tuple[str, ...]], float] = {}
    for stack in found:
        key = (stack.thread, stack.frames)
        summed[key] = summed.get(key, 0.0) + stack.weight
    unpacked = table.unpacked()
    assert len(unpacked) == len(summed)
    for stack in unpacked:
        assert stack.weight == pytest.approx(summed[stack.thread, stack.frames], abs=1e-5)


def changed(profiled: tuple[ProfileResult, Path], change: Callable[[Any], Any]) -> str:
    data = json.loads((profiled[1] / "run.json").read_text())
    return json.dumps(change(data) or data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: {**d, "format": 2},
            r"format 2 is newer than this tfa-perf reads \(1\); upgrade",
        ),
        (lambda d: {**d, "format": 0}, 'no "format" number'),
        (lambda d: {**d, "format": True}, 'no "format" number'),
        (lambda d: [1], 'no "format" number'),
        (lambda d: {**d, "exit_code": "x"}, "exit_code: input should be a valid integer"),
        (lambda d: {k: v for k, v in d.items() if k != "samples"}, "samples: field required"),
        (lambda d: d["samples"]["stacks"].append(["main", 1.0, [10**6]]), "numbered from 0"),
        (lambda d: d["samples"]["stacks"].append(["main", 1.0, []]), "numbered from 0"),
        (
            lambda d: d["times"]["blocks"]["wall_ns"].append(1),
            "36 blocks of 1 steps cannot hold 35 measured",
        ),
        (lambda d: d["times"].update(measured_steps=0), "cannot hold 0 measured"),
        (
            lambda d: d["times"]["blocks"]["phases_ns"]["other"].append(1),
            "times.blocks: 36 blocks of phase 'other', but 35",
        ),
    ],
)
def test_what_is_no_run_file_is_refused(
    change: Callable[[Any], Any],
    words: str,
    profiled: tuple[ProfileResult, Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "run.json").write_text(changed(profiled, change))
    with pytest.raises(RunFileError, match=words) as caught:
        read_run(tmp_path)
    assert "run.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_torn_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="cannot be read"):
        read_run(tmp_path)
    for torn in (b'{"format": 1,', b"\xff\xfe{}"):
        (tmp_path / "run.json").write_bytes(torn)
        with pytest.raises(RunFileError, match="not JSON"):
            read_run(tmp_path)


def test_fields_of_a_later_release_are_skipped(
    profiled: tuple[ProfileResult, Path], tmp_path: Path
) -> None:
    text = changed(profiled, lambda d: {**d, "later": {"x": 1}})
    (tmp_path / "run.json").write_text(text)
    assert read_run(tmp_path) == profiled[0].run


def test_a_write_that_fails_leaves_the_older_file(
    profiled: tuple[ProfileResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, profiled[0].run)
    before = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json.partial").mkdir()
    with pytest.raises(OSError):
        write_run(tmp_path, profiled[0].run.model_copy(update={"name": "other"}))
    assert (tmp_path / "run.json").read_text() == before


def fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from fields(value)


def test_every_field_is_documented() -> None:
    text = DOCS.read_text()
    names = set(fields(RunFile.model_json_schema(mode="serialization")))
    assert len(names) > 30
    assert {name for name in names if f"`{name}`" not in text} == set()

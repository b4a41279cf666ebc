import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile

import pytest
import torch

from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint

CONTENT = {"weights": torch.arange(5.0), "step": 3, "nested": {"names": ["a", "b"], "none": None}}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, CONTENT)
    content = read_checkpoint(path)
    assert torch.equal(content.pop("weights"), CONTENT["weights"])
    assert content == {key: CONTENT[key] for key in ("step", "nested")}
    assert list(tmp_path.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        write_checkpoint(path, {"step": 2, "cannot": lambda: None})
    assert read_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [1 << 20, 1 << 24])
def test_a_disk_that_takes_no_more_is_named_and_leaves_the_old_file_alone(tmp_path, size):
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match=r"last\.pt: cannot be written \(.*free space"):
            write_checkpoint(path, {"step": 2, "weights": torch.zeros(size)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_reading_runs_no_code_from_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Payload()}, "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: cannot be read"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def rewritten(path, name, content, packing):
    """The archive of CONTENT with one entry replaced."""
    torch.save(CONTENT, path)
    with zipfile.ZipFile(path) as old:
        entries = {entry: old.read(entry) for entry in old.namelist()}
    with zipfile.ZipFile(path, "w", packing) as new:
        for entry, held in entries.items():
            new.writestr(entry, content if entry.endswith(name) else held)


@pytest.mark.parametrize("name", ["data.pkl", "data/0", "version", "none of them"])
def test_a_packed_file_is_not_unpacked(tmp_path, name):
    path = tmp_path / "bomb.pt"
    rewritten(path, name, bytes(50_000_000), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"larger than the file; torch\.save packs nothing"):
        read_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


class Sized:
    def __reduce__(self):
        return bytearray, (2**40,)


def test_calls_that_make_objects_of_any_size_are_not_made(tmp_path):
    torch.save({"model": Sized()}, tmp_path / "sized.pt")
    with pytest.raises(CheckpointError, match="names __builtin__ bytearray, which is no plain"):
        read_checkpoint(tmp_path / "sized.pt")
    rewritten(tmp_path / "long.pt", "data.pkl", bytes(17 << 20), zipfile.ZIP_STORED)
    with pytest.raises(CheckpointError, match=r"data\.pkl has 17,825,792 bytes; allowed"):
        read_checkpoint(tmp_path / "long.pt")


@pytest.mark.parametrize("size", [0, 10, 0.5, 0.99])
def test_a_torn_file_is_named_on_one_line(tmp_path, size):
    path = tmp_path / "last.pt"
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: size if size >= 1 or size == 0 else int(len(whole) * size)])
    with pytest.raises(CheckpointError, match=r"last\.pt: cannot be read") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_other_files_and_no_file_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        read_checkpoint(tmp_path / "text.pt")


KILLER = """
import os, random, signal, sys, time
from pathlib import Path

import torch

from tfa_perf.train.checkpoint import read_checkpoint, write_checkpoint

torch.set_num_threads(1)
path = Path(sys.argv[1])
torn = 0
for kill in range(30):
    confirmed_by, confirm = os.pipe()
    writer = os.fork()
    if not writer:
        step = 1000 * kill
        while True:
            write_checkpoint(path, {"step": step, "weights": torch.full((300_000,), float(step))})
            os.write(confirm, step.to_bytes(8, "little"))
            step += 1
    os.close(confirm)
    steps = os.read(confirmed_by, 8)
    time.sleep(random.random() * 0.04)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    while more := os.read(confirmed_by, 1 << 16):
        steps += more
    confirmed = int.from_bytes(steps[-8:], "little")
    content = read_checkpoint(path)
    assert content["step"] in (confirmed, confirmed + 1), (content["step"], confirmed)
    assert (content["weights"] == content["step"]).all()
    torn += any(f".{writer}." in other.name for other in path.parent.iterdir())
print(torn)
"""


def test_killed_at_any_moment_a_whole_checkpoint_is_there(tmp_path):
    path = tmp_path / "last.pt"
    done = subprocess.run(
        [sys.executable, "-c", KILLER, path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # Some were killed while they wrote, or the test has shown nothing.
    assert int(done.stdout) > 0
    # What the killed ones left behind goes with the next write.
    write_checkpoint(path, {"step": 0})
    assert list(tmp_path.iterdir()) == [path]

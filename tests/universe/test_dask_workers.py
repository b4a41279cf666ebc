"""A universe built by the workers of a Dask cluster, some of which are killed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tfa_perf.data import open_store, synthetic_bars
from tfa_perf.universe import ClusterError, build_universe
from tfa_perf.universe.processes import OnDask
from tfa_perf.universe.records import Plan, Recipe
from tfa_perf.universe.records import write as write_record

distributed = pytest.importorskip("distributed")
linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, memory_limit=0, dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        yield client


def states(universe):
    return Counter(each.state for each in universe.partitions)


def test_workers_at_an_address_make_what_one_process_makes(
    tmp_path, files, expected, assert_same, cluster, spec
):
    files[4].write_bytes(files[4].read_bytes()[:-9])
    where = {"scheduler": cluster.scheduler_address}
    universe = build_universe(files, tmp_path / "store", spec, **where)
    assert states(universe) == {"built": 9, "failed": 1}
    assert universe.failed[0].reason.startswith("cannot be read as Parquet: ")
    bars = expected.path.parent / "bars" / files[4].name
    files[4].write_bytes(bars.read_bytes())
    assert states(build_universe(files, tmp_path / "store", spec, **where)) == {
        "copied": 9, "built": 1,
    }  # fmt: skip
    assert_same(open_store(tmp_path / "store"), expected)


def kill_a_writer(pids, killed, over):
    """Kill the first process that is found writing features of a build."""
    while not over.is_set():
        for pid in pids:
            with suppress(OSError):
                for opened in os.scandir(f"/proc/{pid}/fd"):
                    if re.search(r"build-\w+/features\.npy$", os.readlink(opened)):
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                        return


@linux
def test_a_worker_that_is_killed_costs_only_what_it_had_in_hand(
    tmp_path, store_of, write, assert_same, cluster, client, spec
):
    client.wait_for_workers(2)
    files = [write(tmp_path / "bars/S00.parquet", synthetic_bars(20_000, 3))]
    for number in range(1, 30):
        files.append(tmp_path / f"bars/S{number:02}.parquet")
        shutil.copyfile(files[0], files[-1])
    killed, over = [], threading.Event()
    pids = [worker.pid for worker in cluster.workers.values()]
    killer = threading.Thread(target=kill_a_writer, args=(pids, killed, over))
    killer.start()
    built = []
    try:
        universe = build_universe(
            files, tmp_path / "store", spec, scheduler=cluster.scheduler_address,
            progress=lambda what, done, total: what == "built" and built.append(len(killed)),
        )  # fmt: skip
    finally:
        over.set()
        killer.join()
    assert len(killed) == 1 and built[-1] == 1
    assert states(universe) == {"built": 30}
    expected = store_of(tmp_path / "expected", files, [file.stem for file in files])
    assert_same(open_store(tmp_path / "store"), expected)
    client.wait_for_workers(2, timeout=60)
    assert killed[0] not in client.run(os.getpid).values()


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@linux
def test_memory_of_a_worker_is_that_of_one_partition(tmp_path, write, cluster, client, spec):
    client.wait_for_workers(2)
    first = write(tmp_path / "bars/S00.parquet", synthetic_bars(40_000, 3))
    files = [first]
    for number in range(1, 60):
        files.append(tmp_path / f"bars/S{number:02}.parquet")
        shutil.copyfile(first, files[-1])
    peaks = {}
    # The first round loads what is loaded once.
    for count in (6, 6, 60):
        client.run(reset_peak)
        build_universe(
            files[:count], tmp_path / f"store{count}", spec, horizon=len(peaks) + 1,
            scheduler=cluster.scheduler_address,
        )  # fmt: skip
        peaks[count] = max(client.run(peak_mb).values())
    # Bars and features of the 54 more have 170 MB.
    assert peaks[60] < peaks[6] + 30, peaks


def test_a_cluster_without_workers_or_scheduler_is_told(tmp_path, files, spec, monkeypatch):
    monkeypatch.setattr("tfa_perf.universe.processes._PATIENCE_S", 0.2)
    with pytest.raises(ClusterError, match=r"'tcp://127\.0\.0\.1:1' does not answer"):
        build_universe(files, tmp_path / "store", spec, scheduler="tcp://127.0.0.1:1")
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
        ) as empty,
        pytest.raises(ClusterError, match="has no worker; start some with dask worker"),
    ):
        build_universe(files, tmp_path / "store", spec, scheduler=empty.scheduler_address)


def test_workers_that_cannot_build_are_told(tmp_path, cluster, client, spec, monkeypatch):
    client.wait_for_workers(2)
    workers = OnDask(cluster.scheduler_address, 0)
    with pytest.raises(ClusterError, match=r"^tcp://.*: does not see .*nowhere; bars and store"):
        workers.meet(tmp_path / "nowhere")
    plan = Plan(recipe=Recipe.of(spec, 1, None, None), slots=())
    write_record(tmp_path / "plan.json", plan)
    workers.meet(tmp_path)
    monkeypatch.setattr("tfa_perf.universe.processes.__version__", "9.0")
    with pytest.raises(ClusterError, match=r"answers with tfa-perf \S+; install tfa-perf 9\.0"):
        workers.meet(tmp_path)
    workers.close(at_once=False)

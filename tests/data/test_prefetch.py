"""The thread that makes batches ahead, and how it ends."""

import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref

import numpy as np
import pytest

from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.prefetch import Prefetch

BUSY = 3e-4


def threads():
    return [t for t in threading.enumerate() if t.name == "tfa-perf-loader"]


def loader_of(rows=200, **arguments):
    X = np.arange(rows, dtype=np.float32)[:, None]
    return WindowLoader(X, X[:, 0].copy(), window=3, batch_size=4, **arguments)


def start(loader):
    """A pass whose thread runs."""
    batches = iter(loader)
    for _ in range(3):
        next(batches)
        time.sleep(BUSY)
    next(batches)
    assert len(threads()) == 1
    return batches


def test_a_busy_consumer_gets_all_batches_in_order_from_one_thread():
    made_by = set()

    def numbers():
        for i in range(50):
            made_by.add(threading.current_thread().name)
            yield i

    got = []
    for number in Prefetch(numbers(), 2, "tfa-perf-loader"):
        got.append(number)
        time.sleep(BUSY)
    assert got == list(range(50))
    assert made_by == {"tfa-perf-loader", threading.current_thread().name}
    assert not threads()


def test_at_most_depth_items_are_made_ahead():
    made = []
    items = Prefetch((made.append(i) or i for i in range(100)), 3, "tfa-perf-loader")
    for taken in range(1, 8):
        next(items)
        time.sleep(0.02)
        assert len(made) <= taken + 3
    assert len(made) == 10
    items.close()


def test_prefetch_0_starts_no_thread():
    seen = 0
    for _ in loader_of(prefetch=0):
        time.sleep(BUSY)
        seen += len(threads())
    assert seen == 0


def test_early_break_leaves_no_thread():
    loader = loader_of()
    for i, _ in enumerate(loader):
        time.sleep(BUSY)
        if i == 5:
            assert threads()
            break
    assert not threads()


def test_exception_in_the_consumer_leaves_no_thread():
    def consume():
        for i, _ in enumerate(loader_of()):
            time.sleep(BUSY)
            if i == 5:
                assert threads()
                raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    gc.collect()
    assert not threads()


def test_exception_of_the_thread_arrives_with_its_traceback():
    def failing_numbers():
        yield from range(6)
        raise OSError("the disk went away")

    items = Prefetch(failing_numbers(), 2, "tfa-perf-loader")
    with pytest.raises(OSError, match="the disk went away") as caught:
        for _ in items:
            time.sleep(BUSY)
    assert "failing_numbers" in [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert not threads()
    assert list(items) == []


def test_a_thousand_abandoned_passes_leave_nothing():
    before = threading.active_count()
    loaders = []
    for i in range(1000):
        loader = loader_of()
        batches = iter(loader)
        next(batches)
        if i % 50 == 0:
            batches = start(loader)
        loaders.append(weakref.ref(loader))
        del loader, batches
    gc.collect()
    assert threading.active_count() == before
    assert not any(ref() for ref in loaders)


def test_close_ends_every_pass_and_leaves_yielded_batches_alone():
    loader = loader_of()
    first = start(loader)
    second = iter(loader)
    x, _ = next(second)
    copy = x.clone()
    loader.close()
    assert not threads()
    assert list(first) == list(second) == []
    for _ in loader:
        pass
    assert (x == copy).all()
    assert len(list(loader)) == len(loader)


def test_two_passes_at_once_do_not_mix():
    loader = loader_of(return_index=True)
    pairs = []
    for one, other in zip(loader, loader, strict=True):
        time.sleep(BUSY)
        pairs.append((one[2].tolist(), other[2].tolist()))
    assert all(a == b for a, b in pairs)
    assert list(itertools.chain(*(a for a, _ in pairs))) == list(range(2, 200))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_pass_does_not_go_on_in_a_forked_child():
    batches = start(loader_of())
    child = os.fork()
    if child == 0:
        try:
            next(batches)
        except RuntimeError as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    next(batches)
    batches.close()


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(3)", "raise KeyError('end')", "loader.close()"],
    ids=["end", "exit", "error", "close"],
)
def test_interpreter_ends_while_a_thread_makes_batches(ending):
    script = f"""
        import sys, threading, time
        import numpy as np
        from tfa_perf.data.loader import WindowLoader
        X = np.zeros((200_000, 30), np.float32)
        loader = WindowLoader(X, X[:, 0].copy(), window=50, batch_size=2000, shuffle=True)
        batches = iter(loader)
        for _ in range(6):
            next(batches)
            time.sleep(0.001)
        assert [t for t in threading.enumerate() if t.name == "tfa-perf-loader"]
        print("running", flush=True)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "running\n", done.stderr
    assert done.returncode == {"sys.exit(3)": 3, "raise KeyError('end')": 1}.get(ending, 0)
    assert "Fatal" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_batches_made_ahead_take_one_thread_of_the_system():
    # A team of OpenMP's in the loader's thread would take cores from the consumer's.
    code = """
    import os, threading, time
    import numba, numpy as np
    from tfa_perf.data import WindowLoader
    X = np.zeros((100_000, 4), np.float32)
    loader = WindowLoader(X, X[:, 0].copy(), window=8, batch_size=2000, shuffle=True, prefetch=2)
    for _ in loader:
        pass
    before = len(os.listdir("/proc/self/task"))
    for _ in loader:
        time.sleep(0.001)
        names = [thread.name for thread in threading.enumerate()]
        during = len(os.listdir("/proc/self/task"))
        if names.count("tfa-perf-loader") == 1:
            print(during - before, numba.get_num_threads())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 20
    if lines[0].endswith(" 1"):
        pytest.skip("needs two cores")
    assert {line.split()[0] for line in lines} == {"1"}

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.laps import OTHER


def spin(ms: float) -> None:
    end = time.perf_counter() + ms / 1e3
    while time.perf_counter() < end:
        pass


def test_inner_time_is_taken_off_the_outer_phase() -> None:
    with recording(Recorder()) as recorder:
        with phase("outer"):
            time.sleep(0.02)
            with phase("inner"):
                time.sleep(0.05)
            time.sleep(0.01)
        time.sleep(0.015)
        lap = recorder.lap()
    assert lap.calls == {"outer": 1, "inner": 1}
    assert lap.phases["inner"] >= 0.05
    assert 0.03 <= lap.phases["outer"] <= lap.wall_s - 0.05 - 0.015
    assert lap.other_s >= 0.015
    assert sum(lap.phases.values()) == lap.wall_s


shape = st.recursive(
    st.sampled_from("abc"),
    lambda inner: st.tuples(st.sampled_from("abc"), st.lists(inner, max_size=4)),
    max_leaves=20,
)


@given(st.lists(st.lists(shape, max_size=4), min_size=1, max_size=4))
def test_laps_add_up_exactly_and_count_every_span(laps: list[list[object]]) -> None:
    def play(node: object, counts: dict[str, int]) -> None:
        name, children = node if isinstance(node, tuple) else (str(node), [])
        counts[name] = counts.get(name, 0) + 1
        with phase(name):
            for child in children:
                play(child, counts)

    with recording(Recorder()) as recorder:
        walls = 0.0
        whole = recorder.cursor()
        # The first lap began with the recorder, and who knows how long before the cursor.
        recorder.lap()
        for nodes in laps:
            counts: dict[str, int] = {}
            for node in nodes:
                play(node, counts)
            lap = recorder.lap()
            assert lap.calls == counts
            assert sum(lap.phases.values()) == lap.wall_s
            assert all(seconds >= 0 for seconds in lap.phases.values())
            walls += lap.wall_s
        assert whole.lap().wall_s >= walls


def test_exception_closes_its_spans() -> None:
    with recording(Recorder()) as recorder:
        with pytest.raises(KeyError), phase("outer"), phase("inner"):
            raise KeyError
        recorder.lap()
        spin(5)
        lap = recorder.lap()
    assert set(lap.phases) == {OTHER}


def test_decorator_keeps_name_and_result_and_nests() -> None:
    @phase("work")
    def double(x: int) -> int:
        """Twice."""
        return 2 * x if x < 3 else double(x - 1)

    assert double.__name__ == "double"
    assert double.__doc__ == "Twice."
    with recording(Recorder()) as recorder:
        assert double(4) == 4
        lap = recorder.lap()
    assert lap.calls == {"work": 3}


def test_decorating_a_generator_function_is_refused() -> None:
    with pytest.raises(TypeError, match="generator"):

        @phase("work")
        def numbers() -> object:
            yield 1


def test_other_threads_are_summed_apart() -> None:
    def work() -> None:
        with phase("download"):
            time.sleep(0.02)

    with recording(Recorder()) as recorder:
        threads = [threading.Thread(target=work, name="loader") for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lap = recorder.lap()
        others = recorder.other_threads()
    assert set(lap.phases) == {OTHER}
    assert set(others) == {"loader"}
    assert others["loader"]["download"] >= 0.04


def test_lap_on_another_thread_is_refused() -> None:
    errors: list[str] = []

    def cut() -> None:
        try:
            recorder.lap()
        except RuntimeError as error:
            errors.append(str(error))

    with recording(Recorder()) as recorder:
        thread = threading.Thread(target=cut, name="wrong")
        thread.start()
        thread.join()
    assert "wrong" in errors[0]


def test_open_span_is_split_between_laps() -> None:
    with recording(Recorder()) as recorder:
        with phase("long"):
            time.sleep(0.02)
            first = recorder.lap()
            time.sleep(0.03)
        second = recorder.lap()
    assert first.phases["long"] >= 0.02
    assert second.phases["long"] >= 0.03
    assert (first.calls, second.calls) == ({"long": 1}, {})


def test_cursors_do_not_disturb_each_other() -> None:
    with recording(Recorder()) as recorder:
        steps = recorder.cursor()
        with phase("a"):
            spin(3)
        recorder.lap()
        with phase("a"):
            spin(3)
        assert steps.lap().calls == {"a": 2}
        assert recorder.lap().calls == {"a": 1}


def test_pause_is_in_no_lap() -> None:
    with recording(Recorder()) as recorder:
        recorder.lap()
        with recorder.pause():
            time.sleep(0.2)
        lap = recorder.lap()
    assert lap.wall_s < 0.2


def test_generator_that_closes_late_leaves_no_open_span() -> None:
    def rows() -> object:
        with phase("rows"):
            yield 1

    with recording(Recorder()) as recorder:
        generator = rows()
        next(generator)  # type: ignore[call-overload]
        with phase("use"):
            generator.close()  # type: ignore[attr-defined]
            recorder.lap()
            spin(3)
        lap = recorder.lap()
        spin(3)
        after = recorder.lap()
    assert set(lap.phases) == {"use", OTHER}
    assert set(after.phases) == {OTHER}


def test_spans_across_recorders_do_not_leak() -> None:
    outer = phase("outer")
    with outer, recording(Recorder()) as recorder:
        outer.__exit__(None, None, None)
        spin(2)
        assert set(recorder.lap().phases) == {OTHER}


def test_only_one_recorder_is_active() -> None:
    with recording(Recorder()):
        with pytest.raises(RuntimeError, match="another Recorder"), recording(Recorder()):
            pass
        with phase("still recording"):
            pass
    with recording(Recorder()):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_records_nothing() -> None:
    with recording(Recorder()) as recorder:
        pid = os.fork()
        if pid == 0:
            with phase("child"):
                pass
            os._exit(0 if "child" not in recorder.lap().calls else 1)
        assert os.waitpid(pid, 0)[1] == 0


def test_suspended_recorder_keeps_open_spans_and_takes_no_time() -> None:
    with recording(Recorder()) as recorder:
        outer, ended, begun = phase("outer"), phase("ended"), phase("begun")
        with outer:
            ended.__enter__()
            recorder.lap()
            recorder.suspend()
            time.sleep(0.05)
            ended.__exit__()
            begun.__enter__()
            with phase("inside"):
                time.sleep(0.05)
            recorder.resume()
            time.sleep(0.02)
            lap = recorder.lap()
            assert [span.name for span in recorder.open_spans()] == ["outer", "begun"]
            begun.__exit__()
            spin(2)
        after = recorder.lap()
    assert set(lap.phases) <= {"ended", "begun", OTHER}
    assert lap.phases.get("ended", 0.0) < 0.02 <= lap.phases["begun"]
    assert lap.calls == {}
    assert 0.02 <= lap.wall_s < 0.05
    assert set(after.phases) == {"begun", "outer", OTHER}
    assert sum(lap.phases.values()) == lap.wall_s


def test_a_pause_keeps_out_the_phases_opened_in_it() -> None:
    with recording(Recorder()) as recorder:
        started = time.perf_counter()
        recorder.lap()
        with phase("forward"), recorder.pause(), phase("paused"):
            time.sleep(0.05)
        lap = recorder.lap()
        elapsed = time.perf_counter() - started
    assert lap.calls == {"forward": 1}
    assert set(lap.phases) == {"forward", "other"}
    assert lap.wall_s <= elapsed - 0.05


def test_an_observer_is_told_of_the_main_thread_s_spans_in_order() -> None:
    class Told:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def enter(self, span: phase) -> None:
            self.seen.append(f"+{span.name}")

        def leave(self, span: phase) -> None:
            self.seen.append(f"-{span.name}")

    told = Told()
    with recording(Recorder()) as recorder:
        recorder.observe(told)
        with phase("a"), phase("b"):
            with recorder.pause(), phase("paused"):
                pass
            assert [span.name for span in recorder.open_spans()] == ["a", "b"]
            thread = threading.Thread(target=phase("beside")(lambda: None))
            thread.start()
            thread.join()
        outer, inner = phase("outer"), phase("inner")
        outer.__enter__()
        inner.__enter__()
        outer.__exit__()
        inner.__exit__()
        recorder.observe(None)
        with phase("after"):
            pass
    assert told.seen == ["+a", "+b", "-b", "-a", "+outer", "+inner", "-outer", "-inner"]


def test_a_pause_of_a_suspended_recorder_counts_nothing() -> None:
    with recording(Recorder()) as recorder, phase("work"):
        recorder.lap()
        recorder.suspend()
        spin(20)
        with recorder.pause():
            spin(20)
        recorder.resume()
        lap = recorder.lap()
    assert lap.wall_s < 0.02
    assert lap.phases.get("work", 0.0) < 0.02

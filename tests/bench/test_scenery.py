"""The scenery of the experiments: turns, tables, result files, child processes."""

import json
import multiprocessing
import os
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scenery import results, tables
from bench.scenery.processes import Child, ChildFailedError, Job, run_jobs
from bench.scenery.turns import Spread, alternate, percentile, ratios

speeds = st.lists(st.floats(1.0, 1e9), min_size=1, max_size=20)


@given(speeds, st.floats(0.01, 100.0))
def test_ratios_of_proportional_speeds_are_exact(theirs, factor):
    spread = ratios([factor * one for one in theirs], theirs)
    assert [spread.low, spread.median, spread.high] == pytest.approx([factor] * 3)
    assert spread.count == len(theirs)


@given(speeds)
def test_spread_quartiles_enclose_median_within_values(values):
    spread = Spread.of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)
    assert percentile(values, 99) == max(values)  # the maximum for fewer than 100 values


def test_alternate_rotates_turns_and_drops_failed_measures():
    calls = []

    def measure(name):
        def run(turn):
            calls.append((turn, name))
            if (turn, name) == (1, "b"):
                raise ChildFailedError("ended")
            return turn

        return run

    failed = {}
    results = alternate("turns", 3, {name: measure(name) for name in "abc"}, failed)
    assert calls == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a"), (2, "c"), (2, "a")]
    assert results == {"a": [0, 1, 2], "c": [0, 1, 2]}
    assert failed == {"b": "ended"}


def test_markdown_table_is_aligned_with_three_digits():
    rows = [["lru", tables.number(1234567.8)], ["s3fifo", tables.number(0.01234)]]
    assert tables.markdown(["policy", "rows/s"], rows).splitlines() == [
        "| policy |    rows/s |",
        "| ------ | --------: |",
        "| lru    | 1,234,568 |",
        "| s3fifo |    0.0123 |",
    ]
    assert tables.spread(Spread(0.9712, 0.95, 0.98, 5)) == "0.97 [0.95, 0.98]"


def test_result_file_has_four_digits_and_a_line_per_record(tmp_path):
    path = tmp_path / "new" / "study.json"
    content = {"about": {"rate": 1234.567}, "records": [{"value": Spread(1.23456, 1, 2, 3)}, {}]}
    results.write_json(path, content)
    assert results.read_json(path) == {
        "about": {"rate": 1235.0},
        "records": [{"value": {"median": 1.235, "low": 1, "high": 2, "count": 3}}, {}],
    }
    assert len(path.read_text().splitlines()) == 5
    results.write_json(path, [{"a": 1}, {"a": 2}])
    assert json.loads(path.read_text()) == [{"a": 1}, {"a": 2}]


class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, more):
        self.count += more
        return self.count

    def crash(self):
        os.abort()


def is_stopped(child):
    deadline = time.monotonic() + 5  # the signal arrives with a delay
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > deadline:
            return False
    return True


def test_child_answers_calls_and_is_stopped_between_them():
    child = Child("counter", Counter, (3,), paused=True)
    try:
        assert is_stopped(child)
        assert (child.call("add", 2), child.call("add", 1)) == (5, 6)
        assert is_stopped(child)
        with pytest.raises(ChildFailedError, match="counter ended with exit code -6"):
            child.call("crash")
    finally:
        child.close()


def test_child_that_fails_to_start_raises_with_reason():
    with pytest.raises(ChildFailedError, match="counter failed: TypeError"):
        Child("counter", Counter)
    assert not multiprocessing.active_children()


def square(number):
    return number * number


def raise_error():
    raise ValueError("no such thing")


@pytest.mark.parametrize("processes", [1, 2])
def test_jobs_return_or_fail_independently(processes):
    jobs = [Job("raises", raise_error), Job("crashes", os.abort)]
    jobs += [Job(f"square of {number}", square, (number,)) for number in range(3)]
    outcomes = {job.name: result for job, result in run_jobs(jobs, processes)}
    assert str(outcomes.pop("raises")) == "raises failed: ValueError: no such thing"
    assert str(outcomes.pop("crashes")) == "crashes ended with exit code -6"
    assert outcomes == {f"square of {number}": number * number for number in range(3)}


def test_jobs_closed_early_leave_no_process():
    running = run_jobs([Job("square", square, (2,)), Job("sleeps", time.sleep, (60,))], 2)
    assert next(running)[1] == 4
    running.close()
    assert not multiprocessing.active_children()

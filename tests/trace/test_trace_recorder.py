"""The recorder, against the bags that it was given."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_strategies import bags_of_trace, traces

from tieralloc.trace import Recorder


def two_tables(**options):
    return Recorder(["a", "b"], [10, 20], **options)


@given(traces(), st.integers(1, 5), st.booleans())
def test_recording_the_batches_of_a_trace_gives_the_trace(trace, batch_size, last_offset):
    recorder = Recorder(trace.table_names, trace.num_embeddings)
    for indices, offsets in trace.batches(batch_size):
        bags = offsets if last_offset else offsets[:-1]
        recorder.add(range(trace.num_tables), indices, bags, include_last_offset=last_offset)
    recorded = recorder.trace(trace.name)
    assert bags_of_trace(recorded) == bags_of_trace(trace)
    assert recorded.table_names == trace.table_names
    assert recorded.num_embeddings.tolist() == trace.num_embeddings.tolist()
    assert (recorder.num_lookups, recorder.num_samples) == (trace.num_lookups, trace.num_samples)


def test_tables_that_a_call_leaves_out_have_empty_bags():
    recorder = Recorder(["a", "b", "c"], [10, 20, 30])
    recorder.add([2, 0], np.array([5, 6, 7, 8]), np.array([0, 1, 3, 4, 4]))
    recorder.add([1], np.array([9], dtype=np.int32), np.array([0, 1], dtype=np.int32))
    assert bags_of_trace(recorder.trace()) == [
        [[8], [], []],
        [[], [], [9]],
        [[5], [6, 7], []],
    ]


def test_what_the_caller_does_with_its_arrays_later_does_not_matter():
    recorder = two_tables()
    indices, offsets = np.array([1, 2]), np.array([0, 1, 2])
    recorder.add([0, 1], indices, offsets)
    indices[:] = 0
    offsets[:] = 0
    assert bags_of_trace(recorder.trace()) == [[[1]], [[2]]]


def test_recording_goes_on_after_a_trace_was_taken():
    recorder = two_tables()
    recorder.add([0], [1], [0, 1])
    before = recorder.trace("before")
    recorder.add([1], [2], [0, 1])
    assert (before.name, before.num_samples) == ("before", 1)
    assert bags_of_trace(recorder.trace()) == [[[1], []], [[], [2]]]


def test_a_table_made_while_recording_joins_in():
    recorder = two_tables()
    recorder.add([0], [1], [0, 1])
    assert recorder.add_table("c", 30) == 2
    recorder.add([2], [29], [0, 1])
    trace = recorder.trace()
    assert trace.table_names == ["a", "b", "c"]
    assert bags_of_trace(trace) == [[[1], []], [[], []], [[], [29]]]


def test_recording_stops_at_max_lookups_and_leaves_no_hole():
    recorder = two_tables(max_lookups=3)
    recorder.add([0], [1, 2], [0, 2])
    recorder.add([0], [3, 4], [0, 2])
    recorder.add([0], [5], [0, 1])  # Would have room, but for what is missing before it.
    assert bags_of_trace(recorder.trace())[0] == [[1, 2]]
    assert (recorder.num_lookups, recorder.num_samples) == (2, 1)
    assert (recorder.dropped_calls, recorder.dropped_lookups) == (2, 3)


def test_calls_without_bags_or_tables_leave_no_sample():
    recorder = two_tables()
    recorder.add([0, 1], [], [0])
    recorder.add([0, 1], [], [], include_last_offset=False)
    recorder.add([], [], [0])
    assert recorder.trace().num_samples == 0


def test_calls_of_many_threads_are_all_recorded_whole():
    recorder = two_tables()

    def serve(thread):
        for call in range(200):
            recorder.add([0, 1], [thread, thread, call % 20], [0, 1, 3])

    threads = [threading.Thread(target=serve, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bags_of_a, bags_of_b = bags_of_trace(recorder.trace())
    assert recorder.num_samples == len(bags_of_a) == 800
    for thread in range(4):
        calls = [b[1] for a, b in zip(bags_of_a, bags_of_b, strict=True) if a == [thread]]
        assert calls == [call % 20 for call in range(200)]
    assert all(a[0] == b[0] for a, b in zip(bags_of_a, bags_of_b, strict=True))


@pytest.mark.parametrize(
    ("tables", "indices", "offsets", "message"),
    [
        ([-1], [1], [0, 1], "numbers from 0"),
        ([2], [1], [0, 1], "tables hold 2, expected below 2"),
        ([0, 1], [1], [0, 1], "offsets are of 1 bags, expected a multiple of the 2 tables"),
        ([0], [1], [], "expected a multiple"),
        ([0], [1], [0, 2], "not ascending from 0 to 1"),
        ([0], [1, 2], [0, 2, 1, 2], "not ascending from 0 to 2"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_not_recorded(tables, indices, offsets, message):
    recorder = two_tables()
    with pytest.raises(ValueError, match=message):
        recorder.add(tables, indices, offsets)
    assert (recorder.num_samples, recorder.trace().num_lookups) == (0, 0)


def test_a_row_that_the_table_does_not_have_is_named_by_the_trace():
    recorder = two_tables()
    recorder.add([0], [10], [0, 1])
    with pytest.raises(ValueError, match="indices: expected 0 to 9 in table 'a', got 10"):
        recorder.trace()


def test_a_recorder_that_could_hold_nothing_is_refused():
    with pytest.raises(ValueError, match="max_lookups is 0, expected at least 1"):
        two_tables(max_lookups=0)
    with pytest.raises(ValueError, match="num_embeddings are of 1 tables, expected 2"):
        Recorder(["a", "b"], [10])


def test_bags_of_a_shared_table_are_joined_sample_by_sample():
    recorder = Recorder(["a", "b"], [10, 10])
    recorder.add([0, 1, 0], [1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6, 7])
    trace = recorder.trace()
    assert trace.lengths.tolist() == [[3, 2], [1, 1]]
    assert trace.indices.tolist() == [1, 5, 6, 2, 7, 3, 4]

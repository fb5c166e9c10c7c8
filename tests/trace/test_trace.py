"""The trace and its access stream, against plain lists of bags."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_strategies import bags_of_trace, trace_of_bags, traces

from tieralloc.trace import Trace


def sound(**changes):
    """The arguments of a sound trace of tables a (3 rows) and b (2 rows), but for some."""
    arguments = {
        "indices": np.array([0, 2, 1, 1]),
        "offsets": np.array([0, 2, 2, 3, 4]),
        "lengths": np.array([[2, 0], [1, 1]]),
        "table_names": ["a", "b"],
        "num_embeddings": np.array([3, 2]),
    }
    return {**arguments, **changes}


@given(traces())
def test_accesses_are_sample_by_sample_table_by_table_and_in_the_order_of_the_bag(trace):
    bags = bags_of_trace(trace)
    first_row = [sum(trace.num_embeddings.tolist()[:table]) for table in range(trace.num_tables)]
    expected = [
        first_row[table] + index
        for sample in range(trace.num_samples)
        for table in range(trace.num_tables)
        for index in bags[table][sample]
    ]
    accesses = trace.accesses()
    assert accesses.dtype == np.uint64
    assert accesses.tolist() == expected
    assert trace.num_lookups == len(expected)


@given(traces(), st.integers(1, 10))
def test_batches_are_the_bags_of_consecutive_samples(trace, batch_size):
    bags = bags_of_trace(trace)
    found = [[] for _ in bags]
    sizes = []
    for indices, offsets in trace.batches(batch_size):
        assert indices.dtype == offsets.dtype == np.int64
        samples = (len(offsets) - 1) // trace.num_tables
        sizes.append(samples)
        assert (offsets[0], offsets[-1]) == (0, len(indices))
        for table in range(trace.num_tables):
            bounds = offsets[table * samples : (table + 1) * samples + 1]
            found[table] += [indices[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    assert found == bags
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == trace.num_samples


def test_a_batch_size_below_one_is_refused_before_the_first_batch():
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        Trace(**sound()).batches(0)


@given(traces(), st.data())
def test_samples_are_the_bags_asked_for_and_nothing_else(trace, data):
    begin = data.draw(st.integers(0, trace.num_samples))
    end = data.draw(st.integers(begin, trace.num_samples))
    piece = trace.samples(begin, end)
    assert bags_of_trace(piece) == [table[begin:end] for table in bags_of_trace(trace)]
    assert piece.num_embeddings.tolist() == trace.num_embeddings.tolist()
    assert (piece.table_names, piece.name) == (trace.table_names, trace.name)


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (1, 0), (0, 3)])
def test_samples_beyond_the_trace_are_refused(begin, end):
    with pytest.raises(ValueError, match=f"samples {begin} to {end} asked for"):
        Trace(**sound()).samples(begin, end)


@given(traces(), st.data())
def test_sample_of_access_is_the_first_to_begin_at_or_after_it(trace, data):
    access = data.draw(st.integers(0, trace.num_lookups))
    sample = trace.sample_of_access(access)
    begins = [trace.samples(0, before).num_lookups for before in range(trace.num_samples)]
    late = [number for number, begin in enumerate(begins) if begin >= access]
    assert sample == (late[0] if late else trace.num_samples)


def test_sample_of_access_beyond_the_trace_is_refused():
    trace = Trace(**sound())
    for access in (-1, trace.num_lookups + 1):
        with pytest.raises(ValueError, match=f"access {access} asked for"):
            trace.sample_of_access(access)


@given(traces())
def test_offsets_follow_from_lengths(trace):
    again = Trace.from_lengths(
        trace.indices, trace.lengths, trace.table_names, trace.num_embeddings, trace.name
    )
    assert again.offsets.tolist() == trace.offsets.tolist()


def test_arrays_have_the_dtypes_promised_whatever_integers_were_given():
    trace = Trace(
        **sound(
            indices=np.array([0, 2, 1, 1], dtype=np.uint8),
            offsets=np.array([0, 2, 2, 3, 4], dtype=np.int32),
            lengths=np.array([[2, 0], [1, 1]], dtype=np.int64),
        )
    )
    assert trace.indices.dtype == trace.offsets.dtype == trace.num_embeddings.dtype == np.int64
    assert trace.lengths.dtype == np.int32


def test_arrays_of_a_trace_cannot_be_written_to():
    trace = Trace(**sound())
    for array in (trace.indices, trace.offsets, trace.lengths, trace.num_embeddings):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_callers_array_stays_writeable():
    indices = np.array([0, 2, 1, 1])
    Trace(**sound(indices=indices))
    indices[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": np.array([0.0, 2.0, 1.0, 1.0])}, "indices are of dtype float64"),
        ({"indices": np.array([[0, 2], [1, 1]])}, r"indices have shape \(2, 2\)"),
        ({"indices": np.array([0, 3, 1, 1])}, "indices hold 3 in table 'a', expected 0 to 2"),
        ({"indices": np.array([0, 2, 1, -1])}, "indices hold -1 in table 'b', expected 0 to 1"),
        ({"indices": np.array([0, 2, 1])}, "offsets run from 0 to 4, expected 0 to 3"),
        (
            {"indices": np.array([0, 2, 1, 2**63], dtype=np.uint64)},
            "indices range from 0 to 9223372036854775808, expected int64",
        ),
        ({"offsets": np.array([0, 2, 2, 3])}, "offsets are 4, expected 5"),
        ({"offsets": np.array([1, 2, 2, 3, 4])}, "offsets run from 1 to 4"),
        ({"offsets": np.array([0, 3, 2, 3, 4])}, "bag 0 runs from offset 0 to 3, expected 2"),
        ({"lengths": np.array([2, 0, 1, 1])}, r"lengths have shape \(4,\)"),
        ({"lengths": np.array([[2, 0], [2, 1]])}, "bag 2 runs from offset 2 to 3, expected 2"),
        ({"lengths": np.array([[3, -1], [1, 1]])}, "lengths hold -1, expected none below 0"),
        ({"lengths": np.array([[2, 0, 1, 1]])}, "lengths are of 1 tables, expected 2"),
        ({"lengths": np.array([[2**31, 0], [1, 1]])}, "lengths range from 0 to 2147483648"),
        ({"table_names": ["a", "a"]}, "table_names hold 'a' more than once"),
        ({"table_names": ["a"]}, "lengths are of 2 tables, expected 1"),
        ({"table_names": []}, "table_names are empty"),
        ({"num_embeddings": np.array([3, 0])}, "num_embeddings of table 'b' is 0"),
        ({"num_embeddings": np.array([3])}, "num_embeddings are of 1 tables, expected 2"),
        ({"num_embeddings": np.array([2**62, 2**62])}, "num_embeddings add up to"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Trace(**sound(**changes))


def test_lengths_below_zero_are_refused_before_offsets_are_made_of_them():
    with pytest.raises(ValueError, match="lengths hold -1"):
        Trace.from_lengths([0], [[2, -1]], ["a"], [1])


def test_a_trace_may_have_no_samples():
    trace = trace_of_bags([[], []], [3, 4])
    assert (trace.num_tables, trace.num_samples, trace.num_lookups) == (2, 0, 0)
    assert len(trace.accesses()) == 0
    assert list(trace.batches(5)) == []

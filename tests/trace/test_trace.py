"""The trace and its access stream, against plain lists of bags."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_strategies import bags_of_trace, trace_of_bags, traces

from tieralloc.trace import Trace


def arguments_of_trace(**changes):
    """Return valid arguments of a trace of tables a (3 rows) and b (2 rows), with changes."""
    arguments = {
        "indices": np.array([0, 2, 1, 1]),
        "offsets": np.array([0, 2, 2, 3, 4]),
        "lengths": np.array([[2, 0], [1, 1]]),
        "table_names": ["a", "b"],
        "num_embeddings": np.array([3, 2]),
    }
    return {**arguments, **changes}


@given(traces())
def test_accesses_are_ordered_by_sample_table_and_position(trace):
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
    batched = [[] for _ in bags]
    sizes = []
    for indices, offsets in trace.batches(batch_size):
        assert indices.dtype == offsets.dtype == np.int64
        samples = (len(offsets) - 1) // trace.num_tables
        sizes.append(samples)
        assert (offsets[0], offsets[-1]) == (0, len(indices))
        for table in range(trace.num_tables):
            bounds = offsets[table * samples : (table + 1) * samples + 1]
            batched[table] += [indices[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    assert batched == bags
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == trace.num_samples


def test_batches_of_size_zero_raises_before_first_batch():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        Trace(**arguments_of_trace()).batches(0)


@given(traces(), st.data())
def test_samples_returns_only_requested_bags(trace, data):
    begin = data.draw(st.integers(0, trace.num_samples))
    end = data.draw(st.integers(begin, trace.num_samples))
    part = trace.samples(begin, end)
    assert bags_of_trace(part) == [table[begin:end] for table in bags_of_trace(trace)]
    assert part.num_embeddings.tolist() == trace.num_embeddings.tolist()
    assert (part.table_names, part.name) == (trace.table_names, trace.name)


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (1, 0), (0, 3)])
def test_samples_out_of_range_raises(begin, end):
    with pytest.raises(ValueError, match=f"samples: .* got begin {begin} and end {end}"):
        Trace(**arguments_of_trace()).samples(begin, end)


@given(traces(), st.data())
def test_sample_of_access_is_first_to_begin_at_or_after_it(trace, data):
    access = data.draw(st.integers(0, trace.num_lookups))
    sample = trace.sample_of_access(access)
    begins = [trace.samples(0, before).num_lookups for before in range(trace.num_samples)]
    late = [number for number, begin in enumerate(begins) if begin >= access]
    assert sample == (late[0] if late else trace.num_samples)


def test_sample_of_access_out_of_range_raises():
    trace = Trace(**arguments_of_trace())
    for access in (-1, trace.num_lookups + 1):
        with pytest.raises(ValueError, match=f"access: expected 0 to 4, got {access}"):
            trace.sample_of_access(access)


@given(traces())
def test_from_lengths_computes_offsets(trace):
    again = Trace.from_lengths(
        trace.indices, trace.lengths, trace.table_names, trace.num_embeddings, trace.name
    )
    assert again.offsets.tolist() == trace.offsets.tolist()


def test_trace_of_other_integers_has_documented_dtypes():
    trace = Trace(
        **arguments_of_trace(
            indices=np.array([0, 2, 1, 1], dtype=np.uint8),
            offsets=np.array([0, 2, 2, 3, 4], dtype=np.int32),
            lengths=np.array([[2, 0], [1, 1]], dtype=np.int64),
        )
    )
    assert trace.indices.dtype == trace.offsets.dtype == trace.num_embeddings.dtype == np.int64
    assert trace.lengths.dtype == np.int32


def test_trace_arrays_are_read_only():
    trace = Trace(**arguments_of_trace())
    for array in (trace.indices, trace.offsets, trace.lengths, trace.num_embeddings):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_trace_leaves_array_of_caller_writeable():
    indices = np.array([0, 2, 1, 1])
    Trace(**arguments_of_trace(indices=indices))
    indices[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"indices": np.array([0.0, 2.0, 1.0, 1.0])},
            "indices: expected integers, got dtype float64",
        ),
        ({"indices": np.array([[0, 2], [1, 1]])}, r"indices: expected 1 .* got shape \(2, 2\)"),
        ({"indices": np.array([0, 3, 1, 1])}, "indices: expected 0 to 2 in table 'a', got 3"),
        ({"indices": np.array([0, 2, 1, -1])}, "indices: expected 0 to 1 in table 'b', got -1"),
        ({"indices": np.array([0, 2, 1])}, "offsets: expected 0 to 3, .* got 0 to 4"),
        (
            {"indices": np.array([0, 2, 1, 2**63], dtype=np.uint64)},
            "indices: expected values of int64, got 0 to 9223372036854775808",
        ),
        ({"offsets": np.array([0, 2, 2, 3])}, "offsets: expected 5, .* got 4"),
        ({"offsets": np.array([1, 2, 2, 3, 4])}, "offsets: expected 0 to 4, .* got 1 to 4"),
        ({"offsets": np.array([0, 3, 2, 3, 4])}, "bag 0: expected 2 .* got offsets 0 to 3"),
        ({"lengths": np.array([2, 0, 1, 1])}, r"lengths: expected 2 .* got shape \(4,\)"),
        ({"lengths": np.array([[2, 0], [2, 1]])}, "bag 2: expected 2 .* got offsets 2 to 3"),
        ({"lengths": np.array([[3, -1], [1, 1]])}, "lengths: expected at least 0, got -1"),
        ({"lengths": np.array([[2, 0, 1, 1]])}, "lengths: expected 2 tables, .* got 1"),
        ({"lengths": np.array([[2**31, 0], [1, 1]])}, "lengths: .* int32, got 0 to 2147483648"),
        ({"table_names": ["a", "a"]}, "table_names: .* got 'a' repeatedly"),
        ({"table_names": ["a"]}, "lengths: expected 1 tables, .* got 2"),
        ({"table_names": []}, "table_names: expected at least one table, got none"),
        ({"num_embeddings": np.array([3, 0])}, "num_embeddings: .* got 0 for table 'b'"),
        ({"num_embeddings": np.array([3])}, "num_embeddings: expected 2 tables, .* got 1"),
        ({"num_embeddings": np.array([2**62, 2**62])}, "num_embeddings: expected a sum below 2"),
    ],
)
def test_trace_of_invalid_arguments_raises(changes, message):
    with pytest.raises(ValueError, match=message):
        Trace(**arguments_of_trace(**changes))


def test_from_lengths_negative_raises():
    with pytest.raises(ValueError, match="lengths: expected at least 0, got -1"):
        Trace.from_lengths([0], [[2, -1]], ["a"], [1])


def test_trace_without_samples_is_empty():
    trace = trace_of_bags([[], []], [3, 4])
    assert (trace.num_tables, trace.num_samples, trace.num_lookups) == (2, 0, 0)
    assert len(trace.accesses()) == 0
    assert list(trace.batches(5)) == []

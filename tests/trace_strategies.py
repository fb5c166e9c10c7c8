"""Hypothesis strategies for small traces, including empty bags, samples and tables."""

import numpy as np
from hypothesis import strategies as st

from tieralloc.trace import Trace


@st.composite
def traces(draw, max_tables=4, max_samples=8, max_length=4, max_rows=6):
    num_tables = draw(st.integers(1, max_tables))
    num_samples = draw(st.integers(0, max_samples))
    rows = draw(st.lists(st.integers(1, max_rows), min_size=num_tables, max_size=num_tables))
    bags = [
        [
            draw(st.lists(st.integers(0, table_rows - 1), max_size=max_length))
            for _ in range(num_samples)
        ]
        for table_rows in rows
    ]
    return trace_of_bags(bags, rows)


def trace_of_bags(bags, rows):
    """Return the trace of lists of indices, ``bags[table][sample]``."""
    lengths = np.array([[len(bag) for bag in table] for table in bags], dtype=np.int32)
    indices = [index for table in bags for bag in table for index in bag]
    names = [f"table {number}" for number in range(len(bags))]
    return Trace.from_lengths(np.array(indices, dtype=np.int64), lengths, names, rows)


def bags_of_trace(trace):
    """Return the bags of a trace, computed from the definition of its layout."""
    bounds, samples = trace.offsets.tolist(), trace.num_samples
    indices = trace.indices.tolist()
    return [
        [
            indices[bounds[table * samples + sample] : bounds[table * samples + sample + 1]]
            for sample in range(samples)
        ]
        for table in range(trace.num_tables)
    ]

"""The recorder of any calls has the served rows and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ends_of, flat, new_store
from trace_strategies import bags_of_trace

SIZES = (10, 5)


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["lookup", "table", "store"]),
            st.lists(st.lists(st.integers(-3, 12), max_size=4), max_size=6),
            st.none() | st.integers(0, 4),
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_recorder_any_calls_returns_served_rows(calls):
    """Lists and arrays, empty bags, rows out of range as row 0, without padding."""
    with new_store(fast_rows=8, bounds_check_mode="warning") as store:
        tables = [store.create_table(f"t{n}", rows, 4) for n, rows in enumerate(SIZES)]
        expected = [[], []]
        with store.record() as recorder:
            for way, bags, padding, whole, as_list in calls:
                if way == "lookup":
                    rows = flat(bags)
                    tables[1].lookup(rows.tolist() if as_list else rows)
                    parts, padding = [[], [[row] for row in rows.tolist()]], None
                elif way == "table":
                    offsets = ends_of(bags)[: None if whole else -1]
                    tables[0].embedding_bag(
                        flat(bags).tolist(),
                        offsets.tolist() if as_list else offsets,
                        include_last_offset=whole,
                        padding_idx=padding,
                    )
                    parts = [bags, []]
                else:
                    bags = bags[: len(bags) // 2 * 2]
                    offsets = ends_of(bags)[: None if whole else -1].tolist()
                    padding_idx = None if padding is None else [padding, None]
                    store.embedding_bag(
                        flat(bags), offsets, include_last_offset=whole, padding_idx=padding_idx
                    )
                    parts = [bags[: len(bags) // 2], bags[len(bags) // 2 :]]
                samples = max(map(len, parts))
                for n, part in enumerate(parts):
                    served = [[r if 0 <= r < SIZES[n] else 0 for r in bag] for bag in part]
                    if n == 0 and padding is not None:
                        served = [[row for row in bag if row != padding] for bag in served]
                    expected[n] += served or [[]] * samples
        tables[0].lookup([1])  # after its end
        trace = recorder.to_trace(require_complete=True)
        assert bags_of_trace(trace) == expected
        # Padding is not looked up, and not counted.
        assert store.stats().lookups == trace.num_lookups + 1


def test_recorder_is_exclusive_and_includes_new_tables(make_store):
    store = make_store()
    table = store.create_table("item", 10, 4)
    with store.record() as recorder:
        with pytest.raises(RuntimeError, match="the store is being recorded already"):
            store.record().__enter__()
        table.lookup([1])
        store.create_table("later", 5, 4).lookup([2])
        with pytest.raises(IndexError):
            table.lookup([10])
        table.update([3], np.ones((1, 4), np.float32))
        table.prefetch([4])
    assert bags_of_trace(recorder.to_trace(require_complete=True)) == [[[1], []], [[], [2]]]
    with store.record() as again:
        pass
    assert again.num_lookups == 0

"""Rows of a trace as a resident set."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support import numbered_rows

import tieralloc as ta
from tieralloc import trace
from tieralloc.restart import ResidentSet, from_trace
from tieralloc.tools.cli.main import main


@given(st.lists(st.integers(0, 9), max_size=40), st.floats(0, 1))
def test_rows_are_in_the_order_of_their_last_access(accesses, until):
    lengths = np.ones((1, len(accesses)), dtype=np.int32)
    recorded = trace.Trace.from_lengths(np.array(accesses, np.int64), lengths, ["item"], [10])
    expected = []
    for row in accesses[: round(len(accesses) * until)]:
        expected = [other for other in expected if other != row] + [row]
    resident = from_trace(recorded, until)
    assert resident.rows.tolist() == expected
    assert resident.tables == [("item", 10)]


def test_command_writes_a_file_that_warms_a_store(tmp_path, capsys):
    recorded = trace.generate(num_tables=2, num_embeddings=500, num_samples=200, seed=3)
    trace.write(recorded, tmp_path / "t.npz")
    out = str(tmp_path / "t.warm")
    assert main(["warm-up", str(tmp_path / "t.npz"), "--out", out]) == 0
    assert "rows of 2 tables" in capsys.readouterr().out
    assert main(["warm-up", str(tmp_path / "t.npz"), "--out", out]) == 1  # it exists
    with ta.TieredStore(tmp_path / "a.tier", mode="w", fast_rows=50) as store:
        for name, rows in zip(recorded.table_names, recorded.num_embeddings.tolist(), strict=True):
            store.create_table(name, rows, 16).load(numbered_rows(rows, 16))
        assert store.warm_up(out) == 50
        rows = ResidentSet.read(out).rows[-50:].astype(np.int64)
        for table, first in zip(store.tables.values(), recorded.first_rows.tolist(), strict=True):
            own = rows[(rows >= first) & (rows < first + len(table))] - first
            np.testing.assert_array_equal(table.lookup(own), numbered_rows(len(table), 16)[own])
        assert store.stats().on_demand_fetches == 0

"""Resident tables: small tables that lie in DRAM as a whole."""

import os

import numpy as np
import pytest
from support import numbered_rows, path_of

import tieralloc as ta

ROWS, DIM = 1000, 16


@pytest.fixture
def store(make_store):
    return make_store(fast_bytes="8MiB")


def test_create_table_auto_makes_small_tables_resident(store):
    small = store.create_table("small", ROWS, DIM)
    large = store.create_table("large", 100_000, DIM)
    assert small.resident
    assert not large.resident
    stats = store.stats()
    assert stats.fast_tier.resident_tables == 1
    assert stats.fast_tier.resident_rows == ROWS
    dram = stats.dram
    assert ROWS * DIM * 4 < dram.vector_bytes + dram.index_bytes + dram.metadata_bytes <= 8 << 20


def test_create_table_resident_false_uses_a_tier(store):
    table = store.create_table("item", ROWS, DIM, resident=False)
    table.lookup([3, 4])
    assert not table.resident
    assert store.stats().on_demand_fetches == 2


def test_create_table_resident_true_holds_a_large_table(store):
    table = store.create_table("item", 50_000, DIM, resident=True)
    assert table.resident
    assert store.stats().fast_tier.resident_rows == 50_000


@pytest.mark.parametrize("budget", [{"fast_bytes": "1MiB"}, {"fast_rows": 100}])
def test_create_table_resident_true_beyond_budget_raises(make_store, budget):
    store = make_store(**budget)
    size = os.stat(path_of(store)).st_size
    with pytest.raises(ValueError, match="resident: table 'item' takes 6402048 bytes; expected"):
        store.create_table("item", 100_000, DIM, resident=True)
    assert not store.tables
    assert os.stat(path_of(store)).st_size == size


@pytest.mark.parametrize("choice", ["always", 2, None])
def test_create_table_resident_of_another_kind_raises(store, choice):
    with pytest.raises(ValueError, match=r"resident: expected one of 'auto', True, False, got "):
        store.create_table("item", ROWS, DIM, resident=choice)


def test_resident_lookup_is_a_hit_and_needs_no_prefetch_or_pin(store):
    table = store.create_table("item", ROWS, DIM)
    rows = numbered_rows(ROWS, DIM)
    table.load(rows)
    assert table.prefetch(np.arange(ROWS)) == 0
    table.pin([1, 2])
    table.unpin([1, 2, 3])
    np.testing.assert_array_equal(table.lookup(np.arange(ROWS)), rows)
    stats = store.stats()
    assert (stats.hits, stats.on_demand_fetches) == (ROWS, 0)
    assert stats.fast_tier.pinned_rows == 0
    assert stats.latency.call_hit.count == 1


def test_file_keeps_the_choice_and_a_read_only_store_serves_it(make_store):
    path = make_store.new_path()
    rows = numbered_rows(ROWS, DIM)
    with ta.TieredStore(path, fast_bytes="8MiB") as store:
        for name, resident in (("auto", "auto"), ("no", False), ("large", True)):
            store.create_table(name, ROWS * (30 if resident is True else 1), DIM, resident=resident)
        store.table("auto").load(rows)
        store.table("auto").update([7], rows[:1])
        rows[7] = rows[0]
    with ta.TieredStore(path, mode="r", fast_bytes="8MiB") as store:
        assert [table.resident for table in store.tables.values()] == [True, False, True]
        np.testing.assert_array_equal(store.table("auto").lookup(np.arange(ROWS)), rows)
        assert store.stats().on_demand_fetches == 0
    with ta.TieredStore(path, mode="r", fast_bytes="1MiB") as store:  # which large exceeds
        assert [table.resident for table in store.tables.values()] == [False, False, False]


def test_damaged_page_makes_other_rows_of_the_table_readable(make_store):
    path = make_store.new_path()
    with ta.TieredStore(path, fast_bytes="8MiB") as store:
        store.create_table("item", ROWS, DIM).load(numbered_rows(ROWS, DIM))
    with open(path, "r+b") as file:
        file.seek((2 << 20) + 100)
        file.write(b"damage")
    with ta.TieredStore(path, mode="r", fast_bytes="8MiB") as store:
        table = store.table("item")
        assert not table.resident
        np.testing.assert_array_equal(table.lookup([ROWS - 1]), numbered_rows(ROWS, DIM)[-1:])
        with pytest.raises(OSError, match="table 'item'"):
            table.lookup([0])


def test_record_has_accesses_of_resident_tables(store):
    store.create_table("large", 100_000, DIM)
    table = store.create_table("item", ROWS, DIM)
    with store.record() as recorder:
        table.lookup([5, 3])
    trace = recorder.to_trace("test")
    assert trace.indices.tolist() == [5, 3]
    assert trace.lengths.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("dim", [3, 16])
def test_resident_table_beside_memory_as_slow_tier(dim):
    slow = ta.NumaMemory(0, spill=True, promotion="always")
    rows = numbered_rows(ROWS, dim)
    with ta.TieredStore(slow=slow, fast_bytes="8MiB") as store:
        table = store.create_table("item", ROWS, dim)
        table.load(rows)
        table.update([9, 9], rows[:2])
        rows[9] = rows[1]
        assert table.resident
        np.testing.assert_array_equal(table.lookup(np.arange(ROWS)), rows)
        assert store.stats().on_demand_fetches == 0

"""Statistics by table, against counts of the calls made; their sums are those of the store."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ends_of, flat, new_store, numbered_rows, path_of

import tieralloc as ta
from tieralloc.tools.emulated import EmulatedMemory

TABLES = {"a": (60, 4), "b": (40, 16), "c": (8, 4)}
SUMS = ("lookups", "hits", "on_demand_fetches", "on_demand_device_reads")


def check_sums(stats):
    for name in SUMS:
        assert sum(getattr(table, name) for table in stats.tables.values()) == getattr(stats, name)
    assert sum(table.updated_rows for table in stats.tables.values()) == stats.updates.updated_rows
    outside = sum(table.out_of_range for table in stats.tables.values())
    assert outside == stats.lookup.out_of_range
    for table in stats.tables.values():
        assert table.lookups == table.hits + table.on_demand_fetches
        assert table.miss_ratio == table.on_demand_fetches / max(1, table.lookups)


calls = st.lists(
    st.tuples(st.lists(st.sampled_from(list(TABLES)), min_size=1, max_size=4), st.integers(1, 3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30)
@given(st.data(), calls, st.booleans(), st.integers(0, 40))
def test_table_stats_count_the_calls(data, calls, is_in_memory, fast_rows):
    options = {"fast_rows": max(3, fast_rows), "bounds_check_mode": "warning"}
    if is_in_memory:
        context = ta.TieredStore(slow=EmulatedMemory(1), **options)
    else:
        context = new_store(**options)
    expected = {name: [0, 0, 0] for name in TABLES}
    with context as store:
        for name, (rows, dim) in TABLES.items():
            store.create_table(name, rows, dim).load(numbered_rows(rows, dim))
        for names, num_bags in calls:
            one = st.lists(st.integers(-2, 70), max_size=6)
            lists = data.draw(
                st.lists(one, min_size=len(names) * num_bags, max_size=len(names) * num_bags)
            )
            store.embedding_bag(flat(lists), ends_of(lists), names, padding_idx=[3] * len(names))
            for i, name in enumerate(names):
                rows = flat(lists[i * num_bags : (i + 1) * num_bags])
                outside = (rows < 0) | (rows >= TABLES[name][0])
                expected[name][0] += int((rows != 3).sum())
                expected[name][1] += int(outside.sum())
            values = np.ones((2, TABLES[names[0]][1]), np.float32)
            store.table(names[0]).update([1, 5], values)
            expected[names[0]][2] += 2
        stats = store.stats()
        check_sums(stats)
        for name, (lookups, outside, updated) in expected.items():
            table = stats.tables[name]
            assert (table.lookups, table.out_of_range, table.updated_rows) == (
                *(lookups, outside, updated),
            )
        store.reset_stats()
        check_sums(store.stats())
        assert store.stats().lookups == 0


def test_table_stats_distinguish_fetches_of_tables(make_store):
    store = make_store(fast_rows=1000)
    for name, (rows, dim) in TABLES.items():
        store.create_table(name, rows, dim)
    for rows in ([0, 1, 2, 1], [0, 1, 2, 1], [3, 0, 0, 0]):
        store.table("a").lookup(rows)
    store.embedding_bag([5, 5, 6, 7], [0, 2, 4], ["b", "b"])
    tables = store.stats().tables
    assert list(tables) == list(TABLES)
    assert [(t.hits, t.on_demand_fetches) for t in tables.values()] == [(8, 4), (1, 3), (0, 0)]
    assert [t.rows for t in tables.values()] == [60, 40, 8]
    assert [t.row_bytes for t in tables.values()] == [16, 64, 16]
    assert all(t.bytes % 4096 == 0 and t.bytes >= t.rows * 64 for t in tables.values())
    assert tables["a"].on_demand_bytes == tables["a"].on_demand_device_reads * 4096 > 0
    assert not any(t.is_resident for t in tables.values())


def test_table_stats_tell_resident_tables(make_store):
    store = make_store(fast_bytes="1MiB")
    store.create_table("small", 10, 4, resident=True).lookup([1, 2])
    store.create_table("large", 50_000, 4).lookup([1, 2])
    tables = store.stats().tables
    assert [table.is_resident for table in tables.values()] == [True, False]
    assert [table.hits for table in tables.values()] == [2, 0]


def test_table_stats_of_failed_call_add_up(make_store):
    store = make_store()
    for name in ("a", "b"):
        store.create_table(name, 1000, 4).load(numbered_rows(1000, 4))
    path = path_of(store)
    store.close()
    with open(path, "r+b") as file:
        file.seek((2 << 20) + 70 * 64)  # of table a: a row of its second page
        file.write(b"damage")
    store = make_store.open(path)
    with pytest.raises(OSError, match="the page is damaged"):
        store.embedding_bag([1, 70, 2], [0, 2, 3], ["a", "b"])
    with pytest.raises(OSError, match="the page is damaged"):
        store.table("a").lookup([70])
    store.table("b").lookup([2, 2])
    check_sums(store.stats())
    tables = store.stats().tables
    assert [(t.hits, t.on_demand_fetches) for t in tables.values()] == [(0, 3), (2, 1)]


def test_table_stats_cover_many_tables_and_later_ones(make_store):
    store = make_store(fast_rows=500)
    for i in range(150):
        store.create_table(f"t{i}", 4, 4)
    store.embedding_bag(np.arange(150) % 4, np.arange(151))
    store.create_table("later", 4, 4).lookup([1, 2])
    stats = store.stats()
    check_sums(stats)
    assert [table.lookups for table in stats.tables.values()] == [1] * 150 + [2]

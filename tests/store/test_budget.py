"""Budgets changed while a store serves."""

import threading

import numpy as np
import psutil
import pytest
from support import numbered_rows

import tieralloc as ta

MIB = 1 << 20
ROWS, DIM = 100_000, 64  # 25 MiB of rows


def resident_memory():
    return psutil.Process().memory_info().rss


@pytest.fixture
def table(make_store):
    store = make_store(fast_bytes="40MiB", policy="lru")
    table = store.create_table("item", ROWS, DIM, resident=False)
    table.load(numbered_rows(ROWS, DIM))
    table.lookup(np.arange(ROWS))
    return table


def test_resize_gives_memory_back_and_takes_it(table):
    store = table.store
    full = resident_memory()
    store.resize(fast_bytes="8MiB")
    small = resident_memory()
    assert full - small > 16 * MIB
    stats = store.stats()
    dram = stats.dram
    assert dram.vector_bytes + dram.index_bytes + dram.metadata_bytes <= 8 * MIB
    assert stats.fast_tier.resident_rows == stats.fast_rows > 20_000
    store.resize(fast_bytes="40MiB")
    assert resident_memory() - small < 6 * MIB  # rows that are not there take none
    table.lookup(np.arange(ROWS))
    assert resident_memory() - small > 12 * MIB


def test_resize_keeps_the_rows_used_last(table):
    store = table.store
    store.resize(fast_bytes="20MiB")  # a tier that holds all rows notes no hits
    table.lookup(np.arange(1000))
    store.resize(fast_rows=1000)
    store.reset_stats()
    np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, DIM))
    assert store.stats().on_demand_fetches == 0
    store.resize(fast_bytes="2MiB")
    table.lookup(np.arange(1000))
    assert store.stats().on_demand_fetches == 0


@pytest.mark.parametrize(
    ("budget", "kind", "message"),
    [
        ({}, ValueError, "fast_bytes, fast_rows: expected one of them, got None and None"),
        ({"fast_bytes": 1, "fast_rows": 1}, ValueError, "expected one of them"),
        ({"fast_bytes": 5000}, ValueError, "fast_bytes: too small for a row"),
        ({"fast_rows": 0}, ValueError, "fast_rows: expected 1 to"),
        ({"fast_bytes": "1000TiB"}, MemoryError, "not enough memory"),
    ],
)
def test_resize_invalid_budget_changes_nothing(table, budget, kind, message):
    rows = table.store.stats().fast_rows
    with pytest.raises(kind, match=message):
        table.store.resize(**budget)
    assert table.store.stats().fast_rows == rows


def test_resize_closed_store_raises(table):
    table.store.close()
    with pytest.raises(ValueError, match="the store is closed"):
        table.store.resize(fast_bytes="8MiB")


def test_reserve_keeps_rows_beside_a_scan(table):
    store = table.store
    other = store.create_table("user", 1000, DIM, resident=False)
    other.reserve(fast_bytes="1MiB")
    other.lookup(np.arange(1000))
    table.lookup(np.arange(ROWS))
    store.reset_stats()
    other.lookup(np.arange(1000))
    assert store.stats().on_demand_fetches == 0
    with pytest.raises(ValueError, match="table 'item' has 104857600 bytes reserved; expected at"):
        table.reserve(fast_bytes="100MiB")
    with pytest.raises(ValueError, match="fast_rows: table 'user' has 1048576 bytes reserved"):
        store.resize(fast_rows=100)
    other.reserve(fast_bytes=None)
    small = store.create_table("small", 100, DIM)
    assert small.resident
    with pytest.raises(ValueError, match=r"reserve: <Table 'small'.* lies in DRAM as a whole"):
        small.reserve(fast_bytes="1MiB")
    small.reserve(fast_bytes=None)
    store.resize(fast_rows=100)


def test_resize_beside_lookups_and_updates(make_store):
    store = make_store(fast_rows=2000)
    table = store.create_table("item", 5000, DIM, resident=False)
    updated = store.create_table("user", 10, DIM, resident=False)
    expected = numbered_rows(5000, DIM)
    table.load(expected)
    table.lookup(np.arange(500))
    store.reset_stats()
    failures, stopped = [], threading.Event()

    def look_up(seed):
        random = np.random.default_rng(seed)
        while not stopped.is_set():
            rows = random.integers(0, 500, 50)
            if not np.array_equal(table.lookup(rows), expected[rows]):
                failures.append(rows)

    def update():
        value = 0
        while not stopped.is_set():
            value += 1
            updated.update([0], np.full((1, DIM), value, np.float32))
            seen = updated.lookup([0])
            if not (seen == value).all():
                failures.append((value, seen))

    threads = [threading.Thread(target=look_up, args=(seed,)) for seed in range(2)]
    threads.append(threading.Thread(target=update))
    for thread in threads:
        thread.start()
    for number in range(30):
        store.resize(fast_rows=600 + number % 3 * 700)
    stopped.set()
    for thread in threads:
        thread.join()
    assert not failures
    # An updated row leaves DRAM while readers hold every free slot; rows that are read stay.
    assert store.stats().tables["item"].on_demand_fetches == 0


def test_resize_memory_slow_tier_to_none_and_back():
    slow = ta.NumaMemory(0, spill=True, promotion="always")
    with ta.TieredStore(slow=slow, fast_rows=100) as store:
        table = store.create_table("item", 1000, DIM)
        table.load(numbered_rows(1000, DIM))
        for budget in (0, 50, 100):
            store.resize(fast_rows=budget)
            for _ in range(3):
                np.testing.assert_array_equal(table.lookup(np.arange(100)), numbered_rows(100, DIM))
            assert store.stats().fast_tier.resident_rows <= budget

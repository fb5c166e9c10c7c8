"""Tables with an order of rows, against plain arrays; their DRAM; damage; invalid orders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_support import order_for, seeds
from support import DTYPES, new_store, numbered_rows, path_of, store_of, stored

import tieralloc as ta
from tieralloc._bindings import rows_per_page
from tieralloc.order import Order, TableOrder


@settings(max_examples=40)
@given(seeds, st.sampled_from(DTYPES), st.sampled_from([4, 64, 300, 1100]), st.booleans())
def test_arranged_table_serves_the_rows_of_an_array(seed, dtype, dim, in_dram):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 200))
    order = order_for(rng, item=(rows, dim, dtype))
    values = stored(rng.integers(0, 1000, (rows, dim)), dtype)
    budget = {"fast_bytes": "64MiB"} if in_dram else {"fast_rows": int(rng.integers(1, 50))}
    with new_store(**budget) as store:
        table = store.create_table("item", rows, dim, dtype, order=order)
        assert table.resident == in_dram
        for _ in range(8):
            call = rng.choice(["load", "load part", "stream", "update", "lookup", "flush"])
            if call == "update":
                some = rng.choice(rows, int(rng.integers(1, rows + 1)), replace=False)
                values[some] = stored(rng.integers(0, 1000, (len(some), dim)), dtype)
                table.update(some, values[some])
            elif call == "flush":
                store.flush()
            elif call.startswith("load") or call == "stream":
                first = int(rng.integers(rows)) if call == "load part" else 0
                values[first:] = stored(rng.integers(0, 1000, (rows - first, dim)), dtype)
                if call == "load":
                    table.load(values)
                elif call == "stream":
                    table.load(values[at : at + 7] for at in range(0, rows, 7))
                else:
                    table.load(values[first:], start=first)
            else:
                table.load(values)
                some = rng.integers(rows, size=60)
                np.testing.assert_array_equal(table.lookup(some), values[some])
        table.load(values)
        np.testing.assert_array_equal(table.lookup(np.arange(rows)), values)


def test_order_is_in_the_file(make_store):
    rng = np.random.default_rng(3)
    order = order_for(rng, item=(3000, 64, "float32"), user=(200, 64, "float32"))
    store = make_store()
    store.create_table("item", 3000, 64, order=order).load(numbered_rows(3000, 64))
    store.create_table("plain", 100, 64).load(numbered_rows(100, 64))
    store.create_table("user", 200, 64, order=order).load(numbered_rows(200, 64))
    path = path_of(store)
    store.table("item").update([5, 2999], numbered_rows(2, 64, first=7000))
    store.close()
    expected = numbered_rows(3000, 64)
    expected[[5, 2999]] = numbered_rows(2, 64, first=7000)
    for mode in ("r", "r+"):
        store = make_store.open(path, mode)
        np.testing.assert_array_equal(store.table("item").lookup(np.arange(3000)), expected)
        np.testing.assert_array_equal(
            store.table("user").lookup(np.arange(200)), numbered_rows(200, 64)
        )
        store.close()


def test_rows_of_a_page_take_one_read(make_store):
    # 40 pages of 15 rows that lie far apart by their numbers.
    rows = np.arange(600).reshape(15, 40).T.ravel()
    lengths = np.full(40, 15, np.uint32)
    order = Order({"item": TableOrder(600, 15, rows.astype(np.uint64), lengths)})
    store = make_store(fast_rows=600)
    table = store.create_table("item", 600, 64, order=order)
    position = table.position
    assert store._core.pages(position) == (40, 15, True)
    pages = [set(store._core.rows_of_page(position, page).tolist()) for page in range(40)]
    assert pages == [set(range(first, 600, 40)) for first in range(40)]


def test_map_is_part_of_the_budget(make_store):
    rng = np.random.default_rng(5)
    order = order_for(rng, item=(50_000, 64, "float32"))
    rows = {}
    for choice in (None, order):
        store = make_store(fast_bytes="1MiB", policy="lru", fast_rows=None)
        store.create_table("item", 50_000, 64, order=choice)
        dram = store.stats().dram
        parts = (dram.vector_bytes, dram.index_bytes, dram.metadata_bytes, dram.order_bytes)
        assert sum(parts) <= 1 << 20
        rows[choice] = store.stats().fast_rows
        assert dram.order_bytes == (choice.row_order("item").bytes if choice else 0)
    assert rows[None] > rows[order]
    missing = (rows[None] - rows[order]) * 256
    assert missing == pytest.approx(order.row_order("item").bytes, abs=16_384)


def test_budget_below_the_map_is_refused(make_store):
    rng = np.random.default_rng(5)
    order = order_for(rng, item=(500_000, 64, "float32"))
    bytes_ = order.row_order("item").bytes
    store = make_store(fast_bytes=min(bytes_, 100_000), fast_rows=None)
    with pytest.raises(ValueError, match=f"expected more than the {bytes_} bytes of the orders"):
        store.create_table("item", 500_000, 64, order=order)
    assert not store.tables


def test_invalid_order_changes_nothing(make_store, tmp_path):
    twice = Order({"item": TableOrder(100, 15, np.array([3, 3], np.uint64), np.array([2]))})
    store = make_store()
    store.create_table("first", 10, 4)
    before = store.stats().slow_tier.bytes
    for order, message in [
        (twice, "table 'item': page 0 has row 3 again"),
        (order_for(np.random.default_rng(1), item=(99, 64, "float32")), "is an order of 99 rows"),
        (order_for(np.random.default_rng(1), item=(100, 4, "float32")), "63 rows per page"),
        (order_for(np.random.default_rng(1), user=(100, 64, "float32")), "no order of table"),
    ]:
        with pytest.raises(ValueError, match=message):
            store.create_table("item", 100, 64, order=order)
    with pytest.raises(FileNotFoundError):
        store.create_table("item", 100, 64, order=tmp_path / "missing.npz")
    assert list(store.tables) == ["first"]
    assert store.stats().slow_tier.bytes == before


def test_order_of_rows_in_memory_is_refused():
    order = order_for(np.random.default_rng(1), item=(100, 64, "float32"))
    slow = ta.tiers.NumaMemory(0)
    try:
        store = ta.TieredStore(slow=slow, fast_rows=8)
    except ValueError:
        pytest.skip("this machine has no NUMA nodes")
    with store, pytest.raises(ValueError, match="rows of memory are read in place"):
        store.create_table("item", 100, 64, order=order)


def test_damaged_page_names_its_rows(make_store):
    from tieralloc.tools.check import find_damage, repair

    order = order_for(np.random.default_rng(2), item=(400, 64, "float32"))
    values = numbered_rows(400, 64)
    store = make_store()
    store.create_table("item", 400, 64, order=order).load(values)
    path = path_of(store)
    pages = store._core.pages(0)[0]
    rows = [store._core.rows_of_page(0, page).tolist() for page in range(pages)]
    store.close()
    for page in (0, pages // 2, pages - 1):
        with open(path, "r+b") as file:
            file.seek((2 << 20) + page * 4096 + 100)
            file.write(b"\xff\xff")
    store = make_store.open(path)
    damages = list(find_damage(store))
    assert [damage.rows.tolist() for damage in damages] == [
        rows[page] for page in (0, pages // 2, pages - 1)
    ]
    with pytest.raises(OSError, match=rf"rows? .*{rows[pages // 2][0]}"):
        store.table("item").lookup(rows[pages // 2])
    for damage in damages:
        repair(store, damage, lambda table, rows: values[rows])
    store.close()
    store = make_store.open(path)
    assert list(find_damage(store)) == []
    np.testing.assert_array_equal(store.table("item").lookup(np.arange(400)), values)


def test_rows_per_page_are_those_of_files(make_store):
    for dim, dtype in [(4, "float32"), (64, "float32"), (64, "float16"), (1100, "float64")]:
        store = store_of(make_store.new_path(), fast_rows=8)
        with store:
            table = store.create_table("item", 10, dim, dtype)
            assert store._core.pages(table.position)[1] == rows_per_page(dim, dtype)

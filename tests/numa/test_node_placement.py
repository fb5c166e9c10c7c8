"""Pools on nodes: pages lie on the requested node, are counted elsewhere, or are refused."""

import numpy as np
import pytest
from numa_maps import pages_by_node, policies
from support import numbered_rows

import tieralloc as ta

ROWS, DIM = 20_000, 64
BYTES = ROWS * DIM * 4


def loaded(store, name="item", rows=ROWS):
    table = store.create_table(name, rows, DIM)
    table.load(numbered_rows(rows, DIM))
    return table


def test_slow_tier_rows_lie_on_its_node(nodes):
    for node in nodes:
        before = pages_by_node(1000)
        with ta.TieredStore(slow=ta.NumaMemory(node["id"]), fast_rows=100) as store:
            loaded(store)
            placement = store.stats().slow_tier.placement
            assert placement.node == node["id"]
            assert placement.mode == "bind"
            assert placement.pages_elsewhere == 0
            assert placement.pages * 4096 >= BYTES
            there = pages_by_node(1000)
            assert there[node["id"]] - before[node["id"]] >= BYTES // 4096
            assert {n: there[n] - before[n] for n in there if n != node["id"]} == {
                n: 0 for n in there if n != node["id"]
            }
            assert f"bind:{node['id']}" in policies()


def test_fast_tier_lies_on_its_node(nodes):
    for node in nodes:
        with ta.TieredStore(
            slow=ta.NumaMemory(nodes[0]["id"]), fast_rows=10_000, fast_node=node["id"]
        ) as store:
            table = loaded(store)
            table.lookup(np.arange(100))
            placement = store.stats().fast_tier.placement
            assert placement.node == node["id"]
            assert placement.pages_elsewhere == 0
            assert placement.pages * 4096 >= 10_000 * DIM * 4


def test_fast_tier_of_a_file_lies_on_its_node(far, tmp_path):
    with ta.TieredStore(tmp_path / "slow.tier", fast_rows=5000, fast_node=far["id"]) as store:
        table = loaded(store, rows=6000)
        rows = table.lookup(np.arange(6000))
        np.testing.assert_array_equal(rows, numbered_rows(6000, DIM))
        assert store.stats().fast_tier.placement.pages_elsewhere == 0
        assert store.stats().fast_tier.resident_rows == 5000


def test_each_node_serves_every_row(nodes):
    expected = numbered_rows(ROWS, DIM)
    for node in nodes:
        for fast_rows in (0, 500):
            slow = ta.NumaMemory(node["id"], spill=True, promotion="always")
            with ta.TieredStore(slow=slow, fast_rows=fast_rows) as store:
                table = loaded(store)
                np.testing.assert_array_equal(table.lookup(np.arange(ROWS)), expected)


def test_rows_migrate_from_slow_to_fast_node(nodes, far):
    near = nodes[0]["id"]
    with ta.TieredStore(
        slow=ta.NumaMemory(far["id"], promotion="always"), fast_rows=2000, fast_node=near
    ) as store:
        table = loaded(store)
        hot = np.arange(0, ROWS, 20)
        table.lookup(hot)
        store.reset_stats()
        np.testing.assert_array_equal(table.lookup(hot), numbered_rows(ROWS, DIM)[hot])
        stats = store.stats()
        assert (stats.hits, stats.on_demand_fetches) == (len(hot), 0)
        assert stats.fast_tier.placement.pages_elsewhere == 0


def test_updates_are_written_back_to_slow_node(far):
    with ta.TieredStore(slow=ta.NumaMemory(far["id"]), fast_rows=10) as store:
        table = loaded(store, rows=1000)
        values = numbered_rows(1000, DIM, first=5000)
        table.update(np.arange(1000), values)
        store.flush()
        assert store.stats().updates.dirty_rows == 0
        np.testing.assert_array_equal(table.lookup(np.arange(1000)), values)


def test_missing_node_raises_with_usable_nodes(nodes):
    names = [f"{node['id']} ({node['bytes'] >> 20} MiB" for node in nodes]
    for make in (
        lambda: ta.TieredStore(slow=ta.NumaMemory(77), fast_rows=1),
        lambda: ta.TieredStore(slow=ta.NumaMemory(0), fast_rows=1, fast_node=77),
    ):
        with pytest.raises(ValueError, match="node 77: does not exist") as caught:
            make()
        assert all(name in str(caught.value) for name in names)


def test_table_beyond_node_memory_raises_before_use(far):
    with ta.TieredStore(slow=ta.NumaMemory(far["id"]), fast_rows=10) as store:
        table = loaded(store, rows=100)
        too_many = far["bytes"] // (DIM * 4) + 1
        with pytest.raises(MemoryError, match=f"node {far['id']}: not enough memory"):
            store.create_table("large", too_many, DIM)
        assert list(store.tables) == ["item"]
        np.testing.assert_array_equal(table.lookup([7]), numbered_rows(100, DIM)[[7]])
    with pytest.raises(MemoryError, match=f"node {far['id']}: not enough memory"):  # noqa: SIM117
        with ta.TieredStore(
            slow=ta.NumaMemory(far["id"]), fast_bytes=far["bytes"], fast_node=far["id"]
        ) as store:
            store.create_table("item", far["bytes"] // 256, DIM)


def test_pages_beyond_preferred_node_are_counted(guest, nodes, far):
    rows = far["bytes"] // (DIM * 4) * 5 // 4
    others = sum(node["available"] for node in nodes if node is not far)
    assert others > rows * DIM * 4 // 2, "the guest's other nodes are too small for this test"
    with ta.TieredStore(slow=ta.NumaMemory(far["id"], spill=True), fast_rows=10) as store:
        table = store.create_table("item", rows, DIM)
        placement = store.stats().slow_tier.placement
        assert placement.mode == "prefer"
        spilled = placement.pages_elsewhere
        assert placement.pages // 5 <= spilled < placement.pages
        there = pages_by_node(1000)
        assert abs(sum(there.values()) - there[far["id"]] - spilled) < placement.pages // 100
        table.load(numbered_rows(10, DIM), start=rows - 10)
        np.testing.assert_array_equal(table.lookup([rows - 1]), numbered_rows(10, DIM)[[9]])

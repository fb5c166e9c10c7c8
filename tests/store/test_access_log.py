"""The access log: what lookups accessed, in order, bounded."""

import threading

import numpy as np
import pytest

import tieralloc as ta


@pytest.fixture
def store(tmp_path):
    with ta.TieredStore(tmp_path / "s.tier", fast_rows=50) as store:
        store.create_table("a", 100, 4)
        store.create_table("b", 200, 20)
        store.create_table("c", 30, 4)
        yield store


def test_a_replayed_trace_is_logged_table_by_table_as_it_was_served(store):
    trace = ta.trace.generate(
        num_tables=3, num_embeddings=[4000, 4000, 4000], num_samples=50, mean_pooling_factor=3
    )
    wide = np.minimum(trace.indices, 29)
    trace = ta.trace.Trace(
        wide, trace.offsets, trace.lengths, ["a", "b", "c"], np.array([100, 200, 30]), "t"
    )
    with store.access_log() as log:
        for indices, offsets in trace.batches(1):
            store.embedding_bag(indices, offsets)
        assert np.array_equal(log.drain(), trace.accesses())
        assert len(log.drain()) == 0
        assert log.dropped == 0


def test_a_call_of_many_samples_is_logged_sample_by_sample(store):
    random = np.random.default_rng(3)
    lengths = random.integers(0, 4, (3, 40))
    rows = np.repeat([100, 200, 30], lengths.sum(axis=1))
    trace = ta.trace.Trace(
        random.integers(0, rows),
        np.append(0, np.cumsum(lengths)),
        lengths.astype(np.int32),
        ["a", "b", "c"],
        np.array([100, 200, 30]),
        "t",
    )
    with store.access_log() as log:
        for indices, offsets in trace.batches(16):
            store.embedding_bag(indices, offsets)
        accesses, samples = log.drain_samples()
    assert np.array_equal(accesses, trace.accesses())
    assert np.array_equal(samples, lengths.sum(axis=0))


def test_bags_and_indices_of_one_table_are_samples(tmp_path):
    with ta.TieredStore(tmp_path / "w", fast_rows=5) as store:
        table = store.create_table("a", 9000, 1)
        with store.access_log() as log:
            table.lookup([3, 4])
            table.embedding_bag([1, 2, 3], [0, 0, 2])
            table.embedding_bag([2, 5, 2], [0, 2], padding_idx=2)
            rows, samples = log.drain_samples()
            assert rows.tolist() == [3, 4, 1, 2, 3, 5]
            assert samples.tolist() == [1, 1, 0, 2, 1, 1, 0]
            many = np.arange(9000)  # taken in chunks
            table.embedding_bag(many, [0, 10, 8999])
            rows, samples = log.drain_samples()
            assert np.array_equal(rows, many)
            assert samples.tolist() == [10, 8989, 1]


def test_rows_are_logged_as_they_were_served(tmp_path):
    with ta.TieredStore(tmp_path / "w", fast_rows=5, bounds_check_mode="warning") as store:
        store.create_table("a", 7, 1)
        table = store.create_table("b", 10, 1)
        with store.access_log() as log:
            table.lookup([3, 99, 4])
            table.embedding_bag([1, 2, 3, 2], [0, 2], padding_idx=2)
            assert log.drain().tolist() == [10, 7, 11, 8, 10]


def test_nothing_is_logged_before_and_after(store):
    table = store.table("a")
    table.lookup([1, 2])
    with store.access_log() as log:
        table.lookup([3])
    table.lookup([4])
    assert log.drain().tolist() == []
    with store.access_log() as log:
        assert log.drain().tolist() == []


def test_a_full_ring_drops_and_counts(store):
    table = store.table("a")
    with store.access_log(capacity=8) as log:
        table.lookup(np.arange(4))  # and a word that says so
        table.lookup(np.arange(6, 12))  # does not fit as a whole
        table.lookup([20, 21])
        assert log.drain().tolist() == [0, 1, 2, 3, 20, 21]
        assert log.dropped == 6
        for round_ in range(5):  # around the ring
            table.lookup(np.arange(round_, round_ + 5))
            assert log.drain().tolist() == list(range(round_, round_ + 5))
    assert store.stats()["accesses_dropped"] == 0


def test_threads_lose_and_invent_nothing(store):
    table = store.table("b")
    random = np.random.default_rng(1)
    calls = random.integers(0, 200, (2, 300, 7))
    with store.access_log(capacity=1 << 13) as log:
        threads = [
            threading.Thread(target=lambda mine=mine: [table.lookup(c) for c in mine])
            for mine in calls
        ]
        for thread in threads:
            thread.start()
        seen = []
        while any(thread.is_alive() for thread in threads):
            seen.append(log.drain())
        seen.append(log.drain())
        assert log.dropped == 0
    counted = np.bincount(np.concatenate(seen).astype(np.int64) - 100, minlength=200)
    assert np.array_equal(counted, np.bincount(calls.ravel(), minlength=200))


def test_a_second_log_and_a_closed_store_are_refused(store):
    with store.access_log() as log:
        with pytest.raises(RuntimeError, match="already"), store.access_log():
            pass
        assert store.stats()["dram_bytes"]["access_rings"] == 0
        store.table("a").lookup([1])
        assert store.stats()["dram_bytes"]["access_rings"] == 8 << 16
        store.close()
        with pytest.raises(ValueError, match="closed"):
            log.drain()
    with (
        pytest.raises(ValueError, match="capacity: expected 1 to 268435456, got"),
        store.access_log(1 << 40),
    ):
        pass
    with (
        pytest.raises(ValueError, match="capacity: expected 1 to 268435456, got"),
        store.access_log(0),
    ):
        pass

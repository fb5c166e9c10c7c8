"""The recorder: all accesses of a serving store in order; dropped ones are counted."""

import logging
import threading

import numpy as np
import pytest

import tieralloc as ta
from tieralloc.trace import Trace


@pytest.fixture
def store(tmp_path):
    with ta.TieredStore(tmp_path / "s.tier", fast_rows=50) as store:
        store.create_table("a", 100, 4)
        store.create_table("b", 200, 20)
        store.create_table("c", 30, 4)
        yield store


def random_trace(samples, max_length):
    random = np.random.default_rng(3)
    lengths = random.integers(0, max_length + 1, (3, samples))
    rows = np.repeat([100, 200, 30], lengths.sum(axis=1))
    return Trace.from_lengths(
        random.integers(0, rows), lengths, ["a", "b", "c"], np.array([100, 200, 30])
    )


@pytest.mark.parametrize("batch_size", [1, 16])
def test_recorder_of_served_trace_returns_it(store, batch_size):
    trace = random_trace(40, 3)
    with store.record() as recorder:
        for indices, offsets in trace.batches(batch_size):
            store.embedding_bag(indices, offsets)
    recorded = recorder.to_trace("t", require_complete=True)
    assert (recorded.name, recorded.table_names) == ("t", ["a", "b", "c"])
    assert recorded.num_embeddings.tolist() == [100, 200, 30]
    assert np.array_equal(recorded.indices, trace.indices)
    assert np.array_equal(recorded.lengths, trace.lengths)
    assert (recorder.num_lookups, recorder.num_samples) == (trace.num_lookups, 40)


def test_drain_returns_each_access_once(store):
    trace = random_trace(40, 3)
    with store.record() as recorder:
        for indices, offsets in trace.batches(16):
            store.embedding_bag(indices, offsets)
        rows, lengths = recorder.drain()
        assert np.array_equal(rows, trace.accesses())
        assert np.array_equal(lengths, trace.lengths.sum(axis=0))
        assert [len(part) for part in recorder.drain()] == [0, 0]
        store.table("b").lookup([7])
    rows, lengths = recorder.drain()  # also after its end
    assert (rows.tolist(), lengths.tolist()) == ([107], [1])


def test_recorder_bags_and_indices_of_a_table_are_samples(tmp_path):
    with ta.TieredStore(tmp_path / "w", fast_rows=5) as store:
        table = store.create_table("a", 9000, 1)
        with store.record() as recorder:
            table.lookup([3, 4])
            table.embedding_bag([1, 2, 3], [0, 0, 2])
            table.embedding_bag([2, 5, 2], [0, 2], padding_idx=2)
            rows, samples = recorder.drain()
            assert rows.tolist() == [3, 4, 1, 2, 3, 5]
            assert samples.tolist() == [1, 1, 0, 2, 1, 1, 0]
            many = np.arange(9000)  # several table segments
            table.embedding_bag(many, [0, 10, 8999])
            rows, samples = recorder.drain()
            assert np.array_equal(rows, many)
            assert samples.tolist() == [10, 8989, 1]


def test_recorder_bags_of_a_shared_table_are_joined(store):
    with store.record() as recorder:
        store.embedding_bag([1, 2, 3, 4, 5], [0, 1, 2, 3, 5], tables=["b", "b"])
    trace = recorder.to_trace()
    assert trace.lengths.tolist() == [[0, 0], [2, 3], [0, 0]]
    assert trace.indices.tolist() == [1, 3, 2, 4, 5]


def test_recorder_keeps_table_order_of_store(store):
    with store.record() as recorder:
        store.embedding_bag([9, 8, 7], [0, 1, 3], tables=["c", "a"])
    trace = recorder.to_trace()
    assert trace.lengths.tolist() == [[2], [0], [1]]
    assert trace.indices.tolist() == [8, 7, 9]


def test_recorder_after_max_lookups_counts_and_keeps_no_more(store):
    table = store.table("a")
    with store.record(max_lookups=3) as recorder:
        table.embedding_bag([1, 2], [0])
        table.embedding_bag([3, 4], [0])
        table.embedding_bag([5], [0])  # would fit, but an earlier sample is missing
    assert recorder.to_trace(require_complete=True).indices.tolist() == [1, 2]
    assert (recorder.num_lookups, recorder.num_samples) == (2, 1)
    assert (recorder.skipped_lookups, recorder.dropped_lookups) == (3, 0)


def test_recorder_after_drain_keeps_max_lookups_again(store):
    table = store.table("a")
    with store.record(max_lookups=2) as recorder:
        table.lookup([1, 2, 3])
        assert recorder.drain()[0].tolist() == [1, 2]
        table.lookup([4])
        assert recorder.drain()[0].tolist() == [4]
    assert recorder.skipped_lookups == 1


def test_recorder_with_full_ring_drops_call_and_warns(store, caplog):
    table = store.table("a")
    with store.record(ring_bytes=64) as recorder:
        table.lookup(np.arange(4))  # and a word per call
        recorder.drain()
        table.lookup(np.arange(6, 26))
        table.lookup([20, 21])
        assert store.stats().lookup.accesses_dropped == 20
    with caplog.at_level(logging.WARNING, "tieralloc"):
        assert recorder.to_trace().indices.tolist() == [20, 21]
    assert "20 accesses were dropped" in caplog.text
    with pytest.raises(RuntimeError, match="rings of 64 bytes were full"):
        recorder.to_trace(require_complete=True)
    assert recorder.dropped_lookups == 20
    assert store.stats().lookup.accesses_dropped == 20
    store.reset_stats()
    assert store.stats().lookup.accesses_dropped == 0


def test_recorder_ignores_drops_before_its_start(store):
    table = store.table("a")
    with store.record(ring_bytes=64):
        table.lookup(np.arange(20))
    with store.record(ring_bytes=64) as recorder:
        table.lookup([1])
    assert (recorder.dropped_lookups, recorder.num_lookups) == (0, 1)


def test_recorder_empties_small_ring_while_serving(store):
    """More accesses than the ring holds, and none dropped."""
    table = store.table("b")
    with store.record(ring_bytes="4KiB") as recorder:
        for call in range(40):
            table.lookup(np.full(100, call))
            while recorder.num_lookups < 100 * (call + 1):
                threading.Event().wait(0.0005)
    assert (
        recorder.to_trace(require_complete=True).indices.tolist()
        == np.repeat(np.arange(40), 100).tolist()
    )


def test_recorder_with_threads_keeps_all_accesses(store):
    table = store.table("b")
    calls = np.random.default_rng(1).integers(0, 200, (2, 300, 7))
    with store.record() as recorder:
        threads = [
            threading.Thread(target=lambda mine=mine: [table.lookup(c) for c in mine])
            for mine in calls
        ]
        for thread in threads:
            thread.start()
        drained = [recorder.drain()[0] for _ in range(5)]
        for thread in threads:
            thread.join()
    drained.append(recorder.drain()[0])
    assert recorder.dropped_lookups == 0
    counted = np.bincount(np.concatenate(drained).astype(np.int64) - 100, minlength=200)
    assert np.array_equal(counted, np.bincount(calls.ravel(), minlength=200))


def test_recorder_of_closed_store_keeps_all_accesses(store):
    with store.record() as recorder:
        store.table("a").lookup([1])
        assert store.stats().dram.access_ring_bytes == 8 << 20
        store.close()
    assert recorder.to_trace().indices.tolist() == [1]
    with pytest.raises(ValueError, match="closed"), store.record():
        pass


def test_record_invalid_arguments_raise(store):
    with store.record(), pytest.raises(RuntimeError, match="already"), store.record():
        pass
    with (
        pytest.raises(ValueError, match="ring_bytes: expected 16 to 2147483648, got 1099511627776"),
        store.record(ring_bytes=1 << 40),
    ):
        pass
    with (
        pytest.raises(ValueError, match="max_lookups: expected at least 1, got 0"),
        store.record(max_lookups=0),
    ):
        pass

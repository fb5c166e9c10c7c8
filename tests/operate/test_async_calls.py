"""Lookups that go on in the background."""

import asyncio
import gc
import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import new_store, numbered_rows

import tieralloc as ta

ROWS = 1000


@pytest.fixture
def small(make_store):
    """Return a store of 64 rows with tables `item` of 1000 x 4 and `user` of 1000 x 8."""
    store = make_store(fast_rows=64)
    for name, dim in (("item", 4), ("user", 8)):
        store.create_table(name, ROWS, dim).load(numbered_rows(ROWS, dim))
    return store


@given(st.lists(st.lists(st.integers(0, ROWS - 1), max_size=200), max_size=20))
def test_any_number_of_pending_lookups_have_their_own_rows(requests):
    rows = numbered_rows(ROWS, 4)
    with new_store(fast_rows=64) as store:
        store.create_table("item", ROWS, 4).load(rows)
        pending = [store.lookup_async("item", request) for request in requests]
        for request, lookup in zip(requests, pending, strict=True):
            np.testing.assert_array_equal(lookup.wait(), rows[request])
            assert lookup.done


def test_rows_are_written_to_the_callers_buffer(small):
    out = np.full((3, 4), -1, dtype=np.float32)
    assert small.lookup_async("item", [3, 1, 2], out).wait() is out
    np.testing.assert_array_equal(out, numbered_rows(ROWS, 4)[[3, 1, 2]])


def test_rows_are_written_to_a_tensor(small):
    torch = pytest.importorskip("torch")
    out = torch.full((3, 4), -1.0)
    if torch.accelerator.is_available():
        out = out.pin_memory()
    assert small.lookup_async("item", [3, 1, 2], out).wait() is out
    np.testing.assert_array_equal(out.numpy(), numbered_rows(ROWS, 4)[[3, 1, 2]])
    assert small.table("item").lookup([7], out[:1])[0, 0] == out[0, 0] == 7
    for wrong in (torch.empty(3, 4, device="meta"), torch.empty(3, 4, requires_grad=True)):
        with pytest.raises(TypeError, match="expected an array, a tensor in DRAM or another"):
            small.lookup_async("item", [3, 1, 2], wrong)


def test_raw_rows(small):
    raw = small.lookup_async("item", [5], raw=True).wait()
    assert raw.tobytes() == numbered_rows(ROWS, 4)[5].tobytes()


def test_indices_may_change_after_the_call(small):
    indices = np.array([3, 1, 2])
    lookup = small.lookup_async(small.table("item"), indices)
    indices[:] = 9
    np.testing.assert_array_equal(lookup.wait(), numbered_rows(ROWS, 4)[[3, 1, 2]])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_equal_those_of_the_call_that_waits(small, mode):
    random = np.random.default_rng(0)
    indices, offsets = random.integers(0, ROWS, 60), np.arange(0, 61, 6)
    weights = random.random(60, dtype=np.float32) if mode == "sum" else None
    expected = small.embedding_bag(indices, offsets, None, mode, weights, padding_idx=[1, 2])
    lookup = small.embedding_bag_async(indices, offsets, None, mode, weights, padding_idx=[1, 2])
    np.testing.assert_array_equal(lookup.wait(), expected)


def test_lookups_count_as_others_do(small):
    small.reset_stats()
    small.lookup_async("item", [1, 2, 3]).wait()
    stats = small.stats()
    assert (stats.lookups, stats.on_demand_fetches) == (3, 3)


def test_wrong_arguments_are_errors_at_once(small):
    with pytest.raises(IndexError, match="1000"):
        small.lookup_async("item", [ROWS])
    with pytest.raises(KeyError, match="shop"):
        small.lookup_async("shop", [1])
    with pytest.raises(ValueError, match="offsets"):
        small.embedding_bag_async([1, 2], [0, 5, 1])
    with pytest.raises(ValueError, match="shape"):
        small.lookup_async("item", [1], np.empty((2, 4), dtype=np.float32))


def test_indices_out_of_range_are_logged(make_store, caplog):
    store = make_store(bounds_check_mode="warning")
    store.create_table("item", ROWS, 4)
    lookup = store.lookup_async("item", [ROWS])
    lookup.wait()
    lookup.wait()
    assert store.stats().lookup.out_of_range == 1
    assert len([r for r in caplog.records if "out of range" in r.message]) == 1


def test_coroutines_await_lookups(small):
    rows = numbered_rows(ROWS, 4)

    async def fetch(first):
        return await small.lookup_async("item", np.arange(first, first + 10))

    async def fetch_all():
        return await asyncio.gather(*[fetch(10 * i) for i in range(100)])

    np.testing.assert_array_equal(np.concatenate(asyncio.run(fetch_all())), rows)


def test_dropped_lookups_do_not_write_to_freed_memory(small):
    for _ in range(200):
        for i in range(8):
            small.lookup_async("item", np.arange(i, ROWS, 8))
        gc.collect(0)
    np.testing.assert_array_equal(
        small.lookup_async("item", [7]).wait(), numbered_rows(ROWS, 4)[[7]]
    )


def test_cancelled_lookup_has_no_rows(small):
    ahead = [small.lookup_async("item", np.arange(ROWS)) for _ in range(200)]
    lookup = small.lookup_async("item", [1])
    lookup.cancel()
    assert lookup.done
    with pytest.raises(ValueError, match="cancelled"):
        lookup.wait()
    np.testing.assert_array_equal(ahead[-1].wait(), numbered_rows(ROWS, 4))


def test_close_serves_pending_lookups(small):
    pending = [small.lookup_async("item", np.arange(i, ROWS, 50)) for i in range(50)]
    small.close()
    for i, lookup in enumerate(pending):
        np.testing.assert_array_equal(lookup.wait(), numbered_rows(ROWS, 4)[i::50])
    with pytest.raises(ValueError, match="closed"):
        small.lookup_async("item", [1])


def test_pending_lookups_end_on_the_version_that_they_began_on(tmp_path, make_store):
    paths = [tmp_path / f"{number}.tier" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        with ta.TieredStore(path, mode="w", fast_rows=8) as store:
            store.create_table("item", ROWS, 4).load(np.full((ROWS, 4), number, np.float32))
    store = make_store.open(paths[0])
    before = [store.lookup_async("item", np.arange(i, ROWS, 100)) for i in range(100)]
    store.switch(paths[1])
    after = store.lookup_async("item", [1, 2])
    assert all((lookup.wait() == 1).all() for lookup in before)
    assert (after.wait() == 2).all()


def test_lookups_of_several_threads_beside_updates(small):
    table = small.table("item")
    failures = []

    def serve():
        for _ in range(50):
            seen = small.lookup_async("item", np.arange(100)).wait()
            if not (seen == seen[:, :1]).all():
                failures.append(seen)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    table.update(np.arange(100), np.zeros((100, 4), np.float32))
    for thread in threads:
        thread.start()
    for value in range(50):
        table.update(np.arange(100), np.full((100, 4), value, np.float32))
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_does_not_wait_for_ever(small):
    lookup = small.lookup_async("item", np.arange(ROWS))
    child = os.fork()
    if child == 0:
        try:
            lookup.wait()
        except ValueError as error:
            os._exit(0 if "parent process" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(lookup.wait(), numbered_rows(ROWS, 4))


def test_wait_ends_after_its_timeout_and_the_lookup_goes_on(small):
    ahead = [small.lookup_async("item", np.arange(ROWS)) for _ in range(200)]
    with pytest.raises(TimeoutError, match="within 0 s"):
        ahead[-1].wait(timeout=0)
    np.testing.assert_array_equal(ahead[-1].wait(timeout=60), numbered_rows(ROWS, 4))

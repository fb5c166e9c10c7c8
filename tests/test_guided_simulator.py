"""The binding of the guided simulator: what goes in and out. tests/core has the model of it."""

import numpy as np
import pytest

from tieralloc._core import GuidedSimulator, Simulator

NOTHING = np.array([], dtype=np.uint64)


def rows(*numbers):
    return np.array(numbers, dtype=np.uint64)


def test_kept_rows_stay_and_prefetched_rows_are_hits():
    simulator = GuidedSimulator(2, 10, chunk=2, eviction_speed=0)
    simulator.run(rows(1, 2, 3, 1, 7), np.array([1, 0, 0, 0], bool), rows(5, 7), rows(0, 0, 2))
    assert simulator.counts == {
        **{"lookups": 5, "hits": 2, "on_demand_fetches": 3, "evictions": 3},
        **{"prefetches_issued": 2, "prefetches_useful": 1, "prefetches_late": 0},
        "prefetches_useless": 0,
    }


def test_pieces_of_whole_chunks_count_as_the_whole():
    rng = np.random.default_rng(0)
    accesses = rng.integers(0, 50, 600).astype(np.uint64)
    keep = rng.random(600) < 0.5
    whole = GuidedSimulator(10, 50, chunk=15, eviction_speed=4, count_from=300)
    whole.run(accesses, keep, accesses[:40], np.arange(41, dtype=np.uint64))
    pieces = GuidedSimulator(10, 50, chunk=15, eviction_speed=4, count_from=300)
    for at in range(0, 600, 150):
        ahead = accesses[at // 15 : at // 15 + 10]
        offsets = np.arange(11, dtype=np.uint64)
        pieces.run(accesses[at : at + 150], keep[at : at + 150], ahead, offsets)
    assert whole.counts == pieces.counts
    assert whole.counts["prefetches_useful"] > 0


def test_contradictions_are_errors_of_python():
    with pytest.raises(ValueError, match="eviction_speed is 255"):
        GuidedSimulator(2, 10, chunk=2, eviction_speed=255)
    simulator = GuidedSimulator(2, 10, chunk=2, eviction_speed=0)
    with pytest.raises(ValueError, match="decisions to keep are 0, expected 2"):
        simulator.run(rows(1, 2), NOTHING, NOTHING, rows(0, 0))
    with pytest.raises(IndexError, match="row 10, expected below 10"):
        simulator.run(rows(1, 10), np.ones(2, bool), NOTHING, rows(0, 0))


def test_any_policy_takes_prefetches():
    simulator = Simulator("lru", 2, 10, prefetch_lag=1)
    simulator.prefetch(rows(1, 2))
    simulator.run(rows(1, 2))
    counts = simulator.counts
    assert (counts["prefetches_late"], counts["prefetches_useful"]) == (1, 1)
    with pytest.raises(IndexError, match="row 10"):
        simulator.prefetch(rows(10))

"""The binding of the simulator; tests/core compares the simulator with a naive model."""

import numpy as np
import pytest

from tieralloc._bindings import Simulator


def rows(*numbers):
    return np.array(numbers, dtype=np.uint64)


def test_prefetch_with_simple_policy_counts_prefetches():
    simulator = Simulator("lru", 2, 10, prefetch_lag=1)
    simulator.prefetch(rows(1, 2))
    simulator.run(rows(1, 2))
    counts = simulator.counts
    assert (counts["prefetches_late"], counts["prefetches_useful"]) == (1, 1)
    with pytest.raises(IndexError, match=r"access 0: .* got 10"):
        simulator.prefetch(rows(10))


def test_simulator_simple_policy_has_no_policy_stats():
    simulator = Simulator("lru", 2, 10)
    simulator.run(rows(1, 2, 3), [2, 1])
    assert simulator.counts["evictions"] == 1
    assert (simulator.policy_bytes, simulator.policy_stats) == (0, None)


def test_run_lengths_of_other_sum_raises():
    simulator = Simulator("lru", 2, 10)
    with pytest.raises(ValueError, match="lengths"):
        simulator.run(rows(1, 2, 3), [2])
    assert simulator.counts["lookups"] == 0

"""The peers: all of them return the sums of the rows, whatever the bags and however little DRAM."""

import numpy as np
import pytest

from bench.peers.dataset import Dataset
from bench.peers.kinds import PEERS
from bench.peers.kinds.python_lru import PythonLru
from bench.peers.loads import Batch, Load
from bench.peers.runner import Runner

TABLE_ROWS = (3000, 7000, 1)
DIM = 16


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = Dataset(tmp_path_factory.mktemp("rows"), TABLE_ROWS, DIM)
    dataset.write()
    return dataset


def random_batch(random, bags=8):
    """Bags of 0 to 5 rows of each table, table-major."""
    lengths = random.integers(0, 6, (len(TABLE_ROWS), bags))
    indices = [
        random.integers(0, rows, of_table.sum())
        for rows, of_table in zip(TABLE_ROWS, lengths, strict=True)
    ]
    return Batch(np.concatenate(indices), np.concatenate(([0], np.cumsum(lengths))))


def expected_sums(dataset, batch):
    """One bag after the other, in the plainest way."""
    values = np.fromfile(dataset.path, dtype=np.float32).reshape(-1, DIM)
    bags = (len(batch.offsets) - 1) // len(TABLE_ROWS)
    sums = []
    for bag in range(len(batch.offsets) - 1):
        rows = batch.indices[batch.offsets[bag] : batch.offsets[bag + 1]]
        first = dataset.first_rows[bag // bags]
        sums.append(values[first + rows].sum(axis=0))
    return np.array(sums)


ALL_IN_DRAM = [(key, None) for key in PEERS]
WITHIN_BUDGET = [(key, 1000) for key, kind in PEERS.items() if kind.has_budget]


@pytest.mark.parametrize(("key", "budget_rows"), ALL_IN_DRAM + WITHIN_BUDGET)
def test_bags_are_the_sums_of_their_rows(key, budget_rows, dataset):
    kind = PEERS[key]
    reason = kind.refusal()
    if reason is not None:
        pytest.skip(reason)
    budget = None if budget_rows is None else budget_rows * dataset.row_bytes
    peer = kind(dataset, budget)
    peer.prepare()
    random = np.random.default_rng(0)
    runner = Runner(peer, Load("test", TABLE_ROWS, 0, [random_batch(random)], []))
    runner.open()
    try:
        for _ in range(20):
            batch = random_batch(random)
            np.testing.assert_array_equal(runner.results(batch), expected_sums(dataset, batch))
    finally:
        runner.close()


def test_an_lru_that_was_filled_goes_on_like_one_that_served(dataset):
    random = np.random.default_rng(1)
    warm = [random_batch(random) for _ in range(100)]
    later = [random_batch(random) for _ in range(100)]
    peers = [PythonLru(dataset, 1000 * dataset.row_bytes) for _ in range(2)]
    for peer in peers:
        peer.load()
    served, filled = peers
    for batch in warm:
        served.embedding_bag(batch)
    assert filled.fill(warm)
    before = served.misses()
    for batch in later:
        np.testing.assert_array_equal(served.embedding_bag(batch), filled.embedding_bag(batch))
    lookups, misses = (now - then for now, then in zip(served.misses(), before, strict=True))
    assert filled.misses() == (lookups, misses)
    assert 0 < misses < lookups
    for peer in peers:
        peer.close()

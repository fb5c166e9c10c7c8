"""The comparison with baselines: workloads, sums of all adapters, serving, results."""

import time
from dataclasses import replace

import numpy as np
import pytest

from bench.peers.in_dram import Fbgemm, Tieralloc, TierallocWithPolicy, Torch
from bench.peers.on_disk import Lmdb, Memmap, PythonLru, RocksDb
from bench.peers.results import Result, markdown, save
from bench.peers.scenarios.on_demand import ColdRows
from bench.peers.serving import serve, serve_from_threads
from bench.peers.settings import QUICK
from bench.peers.workloads import (
    ZIPF_EXPONENT,
    Batch,
    Dataset,
    Workload,
    make_workload,
    uniform,
    zipf,
)
from bench.scenery.results import read_json
from bench.scenery.turns import Spread
from tieralloc import trace

TABLE_ROWS = (3000, 7000, 1)
DIM = 16
KINDS = (Tieralloc, TierallocWithPolicy, Torch, Fbgemm, Memmap, Lmdb, RocksDb, PythonLru)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = Dataset(tmp_path_factory.mktemp("rows"), TABLE_ROWS, DIM)
    dataset.write()
    return dataset


def random_batch(random, bags=8):
    """Return bags of 0 to 5 rows of each table, table-major."""
    lengths = random.integers(0, 6, (len(TABLE_ROWS), bags))
    indices = [
        random.integers(0, rows, of_table.sum())
        for rows, of_table in zip(TABLE_ROWS, lengths, strict=True)
    ]
    return Batch(np.concatenate(indices), np.concatenate(([0], np.cumsum(lengths))))


def workload(warm):
    return Workload("test", TABLE_ROWS, 0, warm[0], warm, [])


def expected_sums(dataset, batch):
    """Return the sums, bag by bag, with plain NumPy."""
    values = np.fromfile(dataset.path, dtype=np.float32).reshape(-1, DIM)
    first_rows = np.cumsum((0, *TABLE_ROWS))
    sums = []
    for bag in range(len(batch.offsets) - 1):
        rows = batch.indices[batch.offsets[bag] : batch.offsets[bag + 1]]
        sums.append(values[first_rows[bag // 8] + rows].sum(axis=0))
    return np.array(sums)


@pytest.mark.parametrize(
    ("kind", "budget_rows"),
    [(kind, None) for kind in KINDS] + [(kind, 1000) for kind in KINDS if kind.has_budget],
)
def test_adapter_bags_are_sums_of_their_rows(kind, budget_rows, dataset):
    if kind.refusal() is not None:
        pytest.skip(kind.refusal())
    budget = budget_rows and budget_rows * dataset.row_bytes
    random = np.random.default_rng(0)
    adapter = kind(dataset, workload([random_batch(random)]), budget)
    adapter.prepare()
    adapter.open()
    try:
        for _ in range(20):
            batch = random_batch(random)
            np.testing.assert_array_equal(adapter.results(batch), expected_sums(dataset, batch))
    finally:
        adapter.close()


def test_python_lru_filled_equals_one_that_served(dataset):
    random = np.random.default_rng(1)
    warm = [random_batch(random) for _ in range(100)]
    later = [random_batch(random) for _ in range(100)]
    budget = 1000 * dataset.row_bytes
    served, filled = (PythonLru(dataset, workload(warm), budget) for _ in range(2))
    for adapter in (served, filled):
        adapter.open()
    for batch in warm:
        served.embedding_bag(batch)
    filled.warm(seconds=0)
    before = served.misses()
    for batch in later:
        np.testing.assert_array_equal(served.embedding_bag(batch), filled.embedding_bag(batch))
    assert filled.misses() == tuple(np.subtract(served.misses(), before))
    assert 0 < filled.misses()[1] < filled.misses()[0]
    for adapter in (served, filled):
        adapter.close()


def test_zipf_shares_follow_the_exponent_on_random_ids():
    drawn = zipf(1000, np.random.default_rng(0))(200_000)
    counts = np.bincount(drawn, minlength=1000)
    shares = np.sort(counts)[::-1] / len(drawn)
    expected = np.arange(1, 1001) ** -ZIPF_EXPONENT
    expected /= expected.sum()
    assert shares[:10] == pytest.approx(expected[:10], rel=0.05)
    assert shares[100:].sum() == pytest.approx(expected[100:].sum(), rel=0.05)
    assert 100 < np.median(np.argsort(counts)[-20:]) < 900


def test_uniform_draws_all_ids_equally():
    counts = np.bincount(uniform(100, np.random.default_rng(0))(200_000))
    assert counts.max() < 1.2 * counts.min()


@pytest.mark.parametrize("key", ["a", "b"])
def test_workload_batches_have_sizes_and_one_unused_row(key, tmp_path):
    settings = replace(QUICK, rows=50)
    made = make_workload(key, settings, tmp_path)
    assert len(made.warm) == settings.warm_batches
    assert [len(segment) for segment in made.segments] == [settings.segment_batches] * 2
    batches = [batch for part in (made.warm, *made.segments) for batch in part]
    assert {*np.concatenate([batch.indices for batch in batches])} == {*range(49)}
    assert all(np.diff(batch.offsets).tolist() == [20] * settings.bags for batch in batches)


def test_workload_of_trace_warms_up_with_first_half(tmp_path):
    lengths = np.ones((2, 80), dtype=np.int32)
    indices = np.tile(np.arange(80), 2)
    recorded = trace.Trace.from_lengths(indices, lengths, ["x", "y"], [80, 90])
    trace.write(recorded, tmp_path / "small.npz")
    made = make_workload("small", replace(QUICK, trace_batch=10, turns=2), tmp_path)
    assert made.table_rows == (80, 90)
    assert [int(batch.indices[0]) for batch in made.warm] == [0, 10, 20, 30]
    firsts = [[int(batch.indices[0]) for batch in segment] for segment in made.segments]
    assert firsts == [[40, 50], [60, 70]]


def test_cold_rows_share_no_block_and_repeat_in_turn():
    cold = ColdRows(rows=64, row_bytes=1024)
    calls = [cold.take(4) for _ in range(16)]
    assert all(len({*(rows // 4)}) == 4 for rows in calls)
    assert len({*np.concatenate(calls)}) == 64


def batches(count, rows=3):
    return [Batch(np.full(rows, number), np.array([0, rows])) for number in range(count)]


def test_serve_is_in_order_and_ends_after_seconds():
    seen = []
    served = serve(lambda batch: seen.append(int(batch.indices[0])), batches(5), seconds=60)
    assert seen == [0, 1, 2, 3, 4]
    assert (served.rows, len(served.latencies)) == (15, 5)
    assert served.seconds == pytest.approx(sum(served.latencies))
    served = serve(lambda _: time.sleep(0.01), batches(1000), seconds=0.001)
    assert len(served.latencies) == 1


def test_serve_from_threads_counts_rows_and_raises_failures():
    calls = []
    served = serve_from_threads(lambda batch: calls.append(batch), batches(4), 0.02, threads=3)
    assert served.rows == 3 * len(calls) > 0
    with pytest.raises(OSError, match="no such row"):
        serve_from_threads(
            lambda _: (_ for _ in ()).throw(OSError("no such row")), batches(2), 0, 2
        )


def result(value, **fields):
    return Result("x", Spread(value, value, value, 5), **fields)


def test_result_target_is_min_or_max():
    assert [result(value, min=1).is_reached for value in (1.0, 0.99)] == [True, False]
    assert [result(value, max=1.2).is_reached for value in (1.2, 1.21)] == [True, False]
    assert result(1.0).is_reached is None
    assert Result("x", min=1, note="no fio").is_reached is None


def test_markdown_has_values_targets_figures_and_reasons():
    text = markdown([result(0.5, min=1), Result("y", figures={"a": 2.0}, note="no fio")])
    for words in ("0.5 x [0.5 to 0.5]", "≥ 1", "NO", "not measured", "- y: a: 2 · no fio"):
        assert words in text


def test_save_keeps_scenarios_of_same_machine_and_settings(tmp_path):
    path = tmp_path / "results.json"
    about = {"machine": "here", "settings": {"rows": (1, 2)}}

    def measure(number, value, **changed):
        save(path, number, "a scenario", [result(value)], about | changed)
        lines = read_json(path)["lines"]
        return {line["line"]: line["findings"][0]["value"]["median"] for line in lines}

    assert measure(4, 1.5) == {4: 1.5}
    assert measure(2, 2.5) == {2: 2.5, 4: 1.5}
    assert measure(4, 3.5) == {2: 2.5, 4: 3.5}
    assert measure(2, 4.5, settings={"rows": (2,)}) == {2: 4.5}
    assert measure(3, 5.5, machine="there") == {3: 5.5}

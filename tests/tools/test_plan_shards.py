"""Plans of shards: each row once, even reads, limits of ranks, and the estimate of misses."""

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st
from reference_traces import reference
from trace_strategies import traces

from tieralloc.distributed._shards import is_replicated
from tieralloc.tools.plan.curve import Curve, Workload
from tieralloc.tools.plan.shards import RankLimits, accesses_missed, accesses_of_shards, plan_shards
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, generate
from tieralloc.trace.stream import count_distinct

SMALL = RankLimits("64KiB")


def assert_each_row_once(plan, trace):
    for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
        shards = plan.shards[name]
        assert [shard.first for shard in shards] == [0, *(shard.last for shard in shards[:-1])]
        assert shards[-1].last == rows
        assert len({shard.rank for shard in shards}) == len(shards)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_reads_of_generated_trace_are_even(num_ranks):
    trace = generate(num_samples=2000, num_tables=4)
    plan = plan_shards(trace, [SMALL] * num_ranks, embedding_dim=16, batch_size=16)
    assert_each_row_once(plan, trace)
    assert plan.balance <= 1.1
    reads = [rank["reads_per_sample"] for rank in plan.ranks]
    assert max(reads) == pytest.approx(plan.balance * np.mean(reads))
    assert sum(rank["rows"] for rank in plan.ranks) == trace.num_embeddings.sum()


@pytest.mark.parametrize("name", ["trivago", "diginetica"])
def test_plan_of_first_half_is_even_on_second_half(name):
    trace = reference(name)
    half = trace.samples(0, trace.num_samples // 2)
    plan = plan_shards(half, [RankLimits("1MiB")] * 3)
    assert_each_row_once(plan, trace)
    reads = []
    for rank in plan.ranks:
        shards = {trace.table_names.index(each): rows for each, rows in rank["shards"].items()}
        workload = Workload.of(accesses_of_shards(trace, shards), 256, 64, "float32", 0.5)
        (point,) = Curve(workload, "s3fifo", 0.005).points([rank["fast_rows"]])
        reads.append(point.reads_per_call)
    assert max(reads) <= 1.2 * np.mean(reads)


def test_faster_disk_gets_more_reads():
    trace = generate(num_samples=2000, num_tables=4)
    ranks = [
        RankLimits("64KiB", reads_per_second=2e5),
        RankLimits("64KiB", reads_per_second=1e5),
    ]
    plan = plan_shards(trace, ranks, embedding_dim=16, batch_size=16, rate=1000)
    first, second = (rank["reads_per_sample"] for rank in plan.ranks)
    assert first / second == pytest.approx(2, rel=0.2)
    assert plan.balance <= 1.1


@pytest.mark.parametrize(
    ("ranks", "options", "error"),
    [
        ([], {}, "ranks: expected at least one"),
        ([RankLimits("64KiB", disk_bytes="4KiB")] * 2, {}, "rank 0 holds .* disk_bytes of 4KiB"),
        (
            [RankLimits("64KiB", reads_per_second=1.0)] * 2,
            {"rate": 1e6},
            "rank 0 reads .* expected reads_per_second of 1 at most",
        ),
        ([SMALL, RankLimits("64KiB", reads_per_second=1.0)], {}, "for all or none"),
    ],
)
def test_limits_that_do_not_suffice_raise_value_error(ranks, options, error):
    trace = generate(num_samples=200, num_tables=2)
    with pytest.raises(ValueError, match=error):
        plan_shards(trace, ranks, embedding_dim=16, **options)


def test_small_tables_are_replicated_if_asked_for():
    rows = [1000, 4, 800]
    indices = np.random.default_rng(0).integers(0, np.repeat(rows, 2000))
    trace = Trace.from_lengths(indices, np.ones((3, 2000)).astype(int), ["a", "tiny", "b"], rows)
    plan = plan_shards(trace, [RankLimits("32KiB")] * 2, embedding_dim=16, replicate=True)
    assert plan.shards["tiny"] == [(0, 0, 4), (1, 0, 4)]
    assert all("tiny" in rank["shards"] for rank in plan.ranks)
    assert not any(is_replicated(plan.shards[name]) for name in ("a", "b"))
    assert plan.balance <= 1.1
    without = plan_shards(trace, [RankLimits("32KiB")] * 2, embedding_dim=16)
    assert len(without.shards["tiny"]) == 1


def test_text_has_a_line_per_rank_and_the_balance():
    plan = plan_shards(generate(num_samples=200, num_tables=2), [SMALL] * 2, embedding_dim=16)
    text = str(plan)
    assert "rank 0: " in text
    assert "rank 1: " in text
    assert text.endswith("of the mean")


def test_plan_is_one_of_torchrec():
    pytest.importorskip("torchrec")
    from tieralloc.distributed import plan as planner

    plan = planner(generate(num_samples=200, num_tables=2), [SMALL] * 2, embedding_dim=16)
    for name, sharding in plan.sharding.items():
        assert sharding.ranks == [shard.rank for shard in plan.shards[name]]
        sizes = [shard.shard_sizes for shard in sharding.sharding_spec.shards]
        assert sizes == [[shard.last - shard.first, 16] for shard in plan.shards[name]]


@given(traces(max_rows=30, max_samples=10), st.data())
def test_accesses_of_shards_are_those_of_the_rows(trace, data):
    sizes = trace.num_embeddings.tolist()
    shards = {}
    for number, rows in enumerate(sizes):
        first = data.draw(st.integers(0, rows - 1))
        shards[number] = (first, data.draw(st.integers(first + 1, rows)))
    part = accesses_of_shards(trace, shards)
    expected_rows, lengths = [], []
    for number, (first, last) in shards.items():
        for sample in range(trace.num_samples):
            bag = number * trace.num_samples + sample
            rows = trace.indices[trace.offsets[bag] : trace.offsets[bag + 1]]
            kept = [row - first for row in rows.tolist() if first <= row < last]
            expected_rows += kept
            lengths.append(len(kept))
    assert part.indices.tolist() == expected_rows
    assert part.lengths.ravel().tolist() == lengths


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.4])
def test_working_set_misses_about_as_much_as_lru(fraction):
    trace = generate(num_samples=4000, num_tables=3)
    accesses = trace.accesses().astype(np.int64)
    (record,) = simulate(trace, ["lru"], [fraction], 0.0)
    missed = accesses_missed(accesses, record["fast_rows"])
    assert missed.mean() == pytest.approx(record["miss_ratio"], abs=0.03)


def test_working_set_of_all_rows_misses_first_accesses():
    trace = Trace.from_lengths([0, 1, 0, 1, 2], [[1, 1, 1, 1, 1]], ["t"], [3])
    accesses = trace.accesses().astype(np.int64)
    assert accesses_missed(accesses, 3).tolist() == [True, True, False, False, True]
    assert accesses_missed(accesses, 0).all()
    assert count_distinct(trace.accesses(), 3) == 3

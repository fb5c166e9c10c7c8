"""The simulator, compared with models written from the policies' definitions."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from trace_strategies import traces

from tieralloc.tools.simulate import OPT, policy_names, simulate
from tieralloc.trace import generate
from tieralloc.trace.stream import fast_rows

FIELDS = [
    *("policy", "trace", "fast_fraction", "fast_rows", "lookups", "hits", "on_demand_fetches"),
    *("miss_ratio", "prefetches_issued", "prefetches_useful", "prefetches_late", "evictions"),
    *("calls", "device_reads", "on_demand_device_reads", "prefetch_device_reads"),
    *("device_reads_per_request", "batch_size", "embedding_dim", "dtype", "rows_per_page"),
]


def lru_model(accesses, capacity, counted):
    resident, hits, evictions = OrderedDict(), 0, 0
    for number, row in enumerate(accesses):
        if row in resident:
            resident.move_to_end(row)
            hits += number >= counted
            continue
        if len(resident) == capacity:
            resident.popitem(last=False)
            evictions += number >= counted
        resident[row] = None
    return hits, evictions


def opt_model(accesses, capacity, counted):
    def next_use(row, after):
        later = accesses[after + 1 :]
        return later.index(row) if row in later else len(accesses)

    resident, hits = set(), 0
    for number, row in enumerate(accesses):
        if row in resident:
            hits += number >= counted
            continue
        if len(resident) == capacity:
            resident.remove(max(resident, key=lambda candidate: next_use(candidate, number)))
        resident.add(row)
    return hits


@st.composite
def settings_of_traces(draw):
    trace = draw(traces())
    assume(trace.num_lookups > 0)
    distinct = len(set(trace.accesses().tolist()))
    fraction = draw(st.integers(1, distinct)) / distinct
    count_from = draw(st.sampled_from([0.0, 0.25, 0.5, 0.9]))
    return trace, fraction, count_from


@given(settings_of_traces())
def test_simulate_lru_matches_model(drawn):
    trace, fraction, count_from = drawn
    (record,) = simulate(trace, ["lru"], [fraction], count_from)
    accesses = trace.accesses().tolist()
    counted = int(count_from * len(accesses))
    hits, evictions = lru_model(accesses, record["fast_rows"], counted)
    assert (record["hits"], record["evictions"]) == (hits, evictions)
    assert record["lookups"] == len(accesses) - counted


@given(settings_of_traces())
def test_simulate_opt_matches_model(drawn):
    trace, fraction, count_from = drawn
    (record,) = simulate(trace, [OPT], [fraction], count_from)
    accesses = trace.accesses().tolist()
    assert record["hits"] == opt_model(
        accesses, record["fast_rows"], int(count_from * len(accesses))
    )


def device_reads_of_lru(trace, capacity, batch_size, rows_per_page):
    """Return the pages that the misses of each call read: hits first, then the missed rows."""
    resident, reads = OrderedDict(), 0
    for indices, offsets in trace.batches(batch_size):
        samples = (len(offsets) - 1) // trace.num_tables
        missed = {}
        for bag in range(len(offsets) - 1):
            for row in indices[offsets[bag] : offsets[bag + 1]].tolist():
                key = (bag // samples, row)
                if key in resident:
                    resident.move_to_end(key)
                else:
                    missed[key] = None
        reads += len({(table, row // rows_per_page) for table, row in missed})
        for key in missed:
            if len(resident) == capacity:
                resident.popitem(last=False)
            resident[key] = None
    return reads


@given(settings_of_traces(), st.integers(1, 5), st.sampled_from([(1, 63), (150, 6), (500, 1)]))
def test_simulate_device_reads_match_model(drawn, batch_size, row):
    trace, fraction, _ = drawn
    dim, in_page = row
    (record,) = simulate(
        *(trace, ["lru"], [fraction]),
        **{"count_from": 0, "batch_size": batch_size, "embedding_dim": dim},
    )
    assert record["rows_per_page"] == in_page
    expected = device_reads_of_lru(trace, record["fast_rows"], batch_size, in_page)
    assert record["on_demand_device_reads"] == record["device_reads"] == expected
    samples = np.flatnonzero(trace.lengths.sum(axis=0))[-1] + 1  # without empty ones at the end
    assert record["calls"] == -(-samples // batch_size)
    assert record["device_reads_per_request"] == expected / record["calls"]


def test_simulate_pages_change_device_reads_alone(trace):
    rows = int(trace.num_embeddings.sum())
    settings = {"batch_size": 8, "embedding_dim": 64}
    policies = ["lru", OPT]
    by_id = simulate(trace, policies, [0.1], **settings)
    alone = simulate(trace, policies, [0.1], **settings, pages=np.arange(rows, dtype=np.uint32))
    together = simulate(trace, policies, [0.1], **settings, pages=np.zeros(rows, dtype=np.uint32))
    for one, other, same in zip(by_id, alone, together, strict=True):
        changed = {name for name in one if one[name] != other[name]}
        assert changed <= {"device_reads", "on_demand_device_reads", "device_reads_per_request"}
        assert same["device_reads"] <= same["calls"] <= one["device_reads"] < other["device_reads"]
        # OPT misses a row again within a call, which reads its page once.
        assert other["device_reads"] <= other["on_demand_fetches"]
    with pytest.raises(ValueError, match=rf"pages: expected one per row, {rows}, got 2"):
        simulate(trace, policies, [0.1], pages=np.zeros(2, dtype=np.uint32))


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=500, num_tables=3, name="small")


@pytest.fixture(scope="module")
def records(trace):
    return simulate(trace, policy_names(), [0.05, 0.5], count_from=0)


def test_simulate_returns_record_per_policy_and_capacity(records):
    keys = [(record["policy"], record["fast_fraction"]) for record in records]
    assert keys == [(policy, fraction) for policy in policy_names() for fraction in (0.05, 0.5)]


def test_simulate_records_have_contract_fields(records):
    assert all(list(record) == FIELDS for record in records)


def test_simulate_counts_of_a_record_agree(records, trace):
    for record in records:
        assert record["hits"] + record["on_demand_fetches"] == record["lookups"]
        assert record["lookups"] == trace.num_lookups
        assert record["miss_ratio"] == record["on_demand_fetches"] / record["lookups"]
        assert record["evictions"] == record["on_demand_fetches"] - record["fast_rows"]


def test_simulate_opt_has_fewest_fetches(records):
    for opt in (record for record in records if record["policy"] == OPT):
        same = [record for record in records if record["fast_rows"] == opt["fast_rows"]]
        assert min(record["on_demand_fetches"] for record in same) == opt["on_demand_fetches"]


def test_simulate_progress_sums_to_all_accesses(trace):
    reports = []
    simulate(trace, ["lru", OPT], [0.1, 0.2], progress=reports.append)
    assert sum(reports) == 4 * trace.num_lookups


def test_simulate_random_depends_on_seed(trace):
    first, again, other = (
        simulate(trace, ["random"], [0.1], seed=seed)[0]["hits"] for seed in (1, 1, 2)
    )
    assert first == again != other


@given(st.integers(1, 10**6), st.data())
def test_fast_rows_rounds_down_and_tolerates_binary_fractions(distinct, data):
    rows = data.draw(st.integers(1, distinct))
    assert fast_rows(rows / distinct, distinct) == rows
    percent = data.draw(st.integers(-(-100 // distinct), 100))
    assert fast_rows(percent / 100, distinct) == percent * distinct // 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ["lru", "lur"]}, "policy: expected one of lru, .*, got 'lur'"),
        ({"fast_fractions": [0]}, "fast_fraction: expected above 0 .* got 0"),
        ({"fast_fractions": [1.5]}, "fast_fraction: .* got 1.5"),
        ({"fast_fractions": [1e-9]}, "expected at least one of"),
        ({"count_from": 1}, "count_from: expected .* got 1"),
        ({"count_from": -0.1}, "count_from: .* got -0.1"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"embedding_dim": 0}, "embedding_dim: expected at least 1, got 0"),
    ],
)
def test_simulate_bad_argument_raises(trace, change, message):
    arguments = {"policies": ["lru"], "fast_fractions": [0.1], **change}
    with pytest.raises(ValueError, match=message):
        simulate(trace, **arguments)


def test_simulate_empty_trace_raises(trace):
    with pytest.raises(ValueError, match="trace 'small': no accesses"):
        simulate(trace.samples(0, 0), ["lru"], [0.1])

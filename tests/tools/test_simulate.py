"""The simulator, compared with models written from the policies' definitions."""

from collections import OrderedDict

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
    "device_reads",
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
    ],
)
def test_simulate_bad_argument_raises(trace, change, message):
    arguments = {"policies": ["lru"], "fast_fractions": [0.1], **change}
    with pytest.raises(ValueError, match=message):
        simulate(trace, **arguments)


def test_simulate_empty_trace_raises(trace):
    with pytest.raises(ValueError, match="trace 'small': no accesses"):
        simulate(trace.samples(0, 0), ["lru"], [0.1])

"""The simulator against models written from the policies' definitions."""

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
]


def lru_model(accesses, capacity, counted):
    held, hits, evictions = OrderedDict(), 0, 0
    for number, row in enumerate(accesses):
        if row in held:
            held.move_to_end(row)
            hits += number >= counted
            continue
        if len(held) == capacity:
            held.popitem(last=False)
            evictions += number >= counted
        held[row] = None
    return hits, evictions


def opt_model(accesses, capacity, counted):
    def next_use(row, after):
        rest = accesses[after + 1 :]
        return rest.index(row) if row in rest else len(accesses)

    held, hits = set(), 0
    for number, row in enumerate(accesses):
        if row in held:
            hits += number >= counted
            continue
        if len(held) == capacity:
            held.remove(max(held, key=lambda kept: next_use(kept, number)))
        held.add(row)
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
def test_lru_counts_what_a_model_of_it_does(drawn):
    trace, fraction, count_from = drawn
    (record,) = simulate(trace, ["lru"], [fraction], count_from)
    accesses = trace.accesses().tolist()
    counted = int(count_from * len(accesses))
    hits, evictions = lru_model(accesses, record["fast_rows"], counted)
    assert (record["hits"], record["evictions"]) == (hits, evictions)
    assert record["lookups"] == len(accesses) - counted


@given(settings_of_traces())
def test_opt_counts_what_a_model_of_it_does(drawn):
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


def test_there_is_a_record_for_each_policy_and_capacity(records):
    found = [(record["policy"], record["fast_fraction"]) for record in records]
    assert found == [(policy, fraction) for policy in policy_names() for fraction in (0.05, 0.5)]


def test_records_have_the_fields_of_the_contract(records):
    assert all(list(record) == FIELDS for record in records)


def test_counts_of_a_record_agree(records, trace):
    for record in records:
        assert record["hits"] + record["on_demand_fetches"] == record["lookups"]
        assert record["lookups"] == trace.num_lookups
        assert record["miss_ratio"] == record["on_demand_fetches"] / record["lookups"]
        assert record["evictions"] == record["on_demand_fetches"] - record["fast_rows"]


def test_no_policy_beats_opt(records):
    for opt in (record for record in records if record["policy"] == OPT):
        same = [record for record in records if record["fast_rows"] == opt["fast_rows"]]
        assert min(record["on_demand_fetches"] for record in same) == opt["on_demand_fetches"]


def test_progress_adds_up_to_all_accesses(trace):
    reports = []
    simulate(trace, ["lru", OPT], [0.1, 0.2], progress=reports.append)
    assert sum(reports) == 4 * trace.num_lookups


def test_the_seed_decides_what_random_draws(trace):
    first, again, other = (
        simulate(trace, ["random"], [0.1], seed=seed)[0]["hits"] for seed in (1, 1, 2)
    )
    assert first == again != other


@given(st.integers(1, 10**6), st.data())
def test_a_capacity_is_rounded_down_but_not_for_want_of_binary_digits(distinct, data):
    rows = data.draw(st.integers(1, distinct))
    assert fast_rows(rows / distinct, distinct) == rows
    percent = data.draw(st.integers(-(-100 // distinct), 100))
    assert fast_rows(percent / 100, distinct) == percent * distinct // 100


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"policies": ["lru", "lur"]}, "'lur' is unknown; known are lru,"),
        ({"fast_fractions": [0]}, "fast_fraction: expected above 0 .* got 0"),
        ({"fast_fractions": [1.5]}, "fast_fraction: .* got 1.5"),
        ({"fast_fractions": [1e-9]}, "expected at least one of"),
        ({"count_from": 1}, "count_from: expected .* got 1"),
        ({"count_from": -0.1}, "count_from: .* got -0.1"),
    ],
)
def test_bad_arguments_are_named(trace, change, told):
    arguments = {"policies": ["lru"], "fast_fractions": [0.1], **change}
    with pytest.raises(ValueError, match=told):
        simulate(trace, **arguments)


def test_a_trace_without_accesses_is_refused(trace):
    with pytest.raises(ValueError, match="'small' has no accesses"):
        simulate(trace.samples(0, 0), ["lru"], [0.1])

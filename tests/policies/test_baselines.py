"""The baseline prefetchers, against oracles of their definitions."""

import baselines_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieralloc.policies.baselines._native import (
    Bingo,
    CoOccurrence,
    Domino,
    NextRow,
    Predicted,
    PrefetchingSimulator,
    RowPrefetcher,
)

from tieralloc._bindings import Simulator

ROWS = 40
TABLE_OF = np.repeat([0, 1, 2], [20, 4, 16])

SMALL = st.integers(1, 6)
next_rows = st.builds(lambda **given: ("next-row", given), degree=SMALL)
co_occurrences = st.builds(
    lambda **given: ("cooccurrence", given),
    rows=SMALL | st.just(ROWS),
    partners=SMALL,
    window=SMALL,
    across_samples=st.booleans(),
    least_share=st.sampled_from([0, 0.05, 0.3, 0.5, 1]),
    degree=SMALL,
)
dominos = st.builds(
    lambda **given: ("domino", given),
    rows=SMALL | st.just(ROWS),
    degree=SMALL,
    streams=st.integers(1, 3),
    followers=st.integers(1, 3),
    history=st.sampled_from([1, 2, 7, 1000]),
    all_accesses=st.booleans(),
)
bingos = st.builds(
    lambda **given: ("bingo", given),
    region=st.sampled_from([2, 4, 8, 64]),
    active=SMALL,
    history=SMALL | st.just(ROWS),
    voters=st.integers(1, 3),
    votes=st.sampled_from([0, 0.2, 0.5, 1, 2]),
)
chosen = next_rows | co_occurrences | dominos | bingos

# Few rows, or runs that come again, so that there is something to remember.
rows_of = st.lists(
    st.integers(0, ROWS - 1).map(lambda row: [row])
    | st.sampled_from([[1, 2, 3, 5, 8], [8, 1, 2, 9], [30, 31, 33, 38], [2, 3, 5]]),
    max_size=60,
).map(lambda runs: [row for run in runs for row in run])


def made(choice):
    """The prefetcher, and the model of it."""
    name, options = choice
    if name == "next-row":
        return NextRow(ROWS, **options), oracle.NextRow(ROWS, **options)
    if name == "cooccurrence":
        return CoOccurrence(**options), oracle.CoOccurrence(**options)
    if name == "domino":
        return Domino(**options), oracle.Domino(**options)
    return Bingo(TABLE_OF, **options), oracle.Bingo(TABLE_OF, **options)


def lengths_of(data, total):
    """Samples of any lengths that add up."""
    lengths = []
    while sum(lengths) < total:
        lengths.append(data.draw(st.integers(0, min(9, total - sum(lengths)))))
    return lengths


@settings(max_examples=300, deadline=None)
@given(chosen, rows_of, st.data())
def test_prefetcher_any_events_matches_oracle(choice, rows, data):
    prefetcher, model = made(choice)
    for row in rows:
        happens = data.draw(st.integers(0, 9))
        if happens == 0:
            prefetcher.begin_sample()
            model.begin_sample()
        elif happens == 1:
            leaving = data.draw(st.sampled_from(rows))
            prefetcher.evicted(leaving)
            model.evicted(leaving)
        found = data.draw(st.sampled_from(["on_demand", "prefetched", "resident"]))
        assert prefetcher.observe(row, found) == model.observe(row, found)


@settings(max_examples=200, deadline=None)
@given(
    chosen, rows_of, st.integers(1, 12), st.integers(0, 40), st.sampled_from([0, 1, 5]), st.data()
)
def test_simulator_over_lru_counts_as_oracle(choice, rows, capacity, count_from, lag, data):
    lengths = lengths_of(data, len(rows))
    prefetcher, model = made(choice)
    simulator = PrefetchingSimulator(
        "lru", capacity, ROWS, prefetcher, count_from=count_from, prefetch_lag=lag
    )
    tier = oracle.Tier(capacity, model, count_from, lag)
    simulator.run(np.array(rows, dtype=np.uint64), lengths)
    tier.run(rows, lengths)
    assert simulator.counts == tier.counts


@settings(max_examples=100, deadline=None)
@given(chosen, rows_of, st.integers(1, 12), st.sampled_from(["lru", "s3fifo", "sieve"]))
def test_prefetched_rows_take_slots_of_the_tier(choice, rows, capacity, policy):
    simulator = PrefetchingSimulator(policy, capacity, ROWS, made(choice)[0])
    simulator.run(np.array(rows, dtype=np.uint64), [len(rows)])
    counts = simulator.counts
    assert counts["lookups"] == counts["hits"] + counts["on_demand_fetches"] == len(rows)
    came_in = counts["on_demand_fetches"] + counts["prefetches_issued"]
    assert came_in - counts["evictions"] <= capacity
    assert counts["prefetches_late"] == 0
    awaiting = counts["prefetches_issued"] - counts["prefetches_useful"]
    assert 0 <= awaiting - counts["prefetches_useless"] <= capacity


@settings(max_examples=50, deadline=None)
@given(rows_of, st.integers(1, 12), st.sampled_from(["lru", "s3fifo"]))
def test_prefetcher_without_prefetches_changes_nothing(rows, capacity, policy):
    rows = np.array(rows, dtype=np.uint64)
    prefetcher = Predicted(all_accesses=True)
    prefetcher.append(np.empty(0, dtype=np.uint64), np.zeros(len(rows) + 1, dtype=np.uint64))
    with_prefetcher = PrefetchingSimulator(policy, capacity, ROWS, prefetcher)
    with_prefetcher.run(rows, [len(rows)])
    alone = Simulator(policy, capacity, ROWS)
    alone.run(rows)
    assert with_prefetcher.counts == alone.counts


@pytest.mark.parametrize(
    "choice",
    [
        ("cooccurrence", {"rows": 8}),
        ("domino", {"rows": 8, "history": 64}),
        ("bingo", {"history": 8, "active": 8}),
    ],
)
def test_prefetcher_memory_is_bounded_by_settings(choice):
    prefetcher, _ = made((choice[0], {**DEFAULTS[choice[0]], **choice[1]}))
    before = prefetcher.nbytes
    random = np.random.default_rng(0)
    for row in random.integers(0, ROWS, 5000):
        prefetcher.observe(int(row), "on_demand")
    assert prefetcher.nbytes == before < 20_000


DEFAULTS = {
    "cooccurrence": {
        "partners": 16,
        "window": 8,
        "across_samples": False,
        "least_share": 0.05,
        "degree": 8,
    },
    "domino": {"degree": 4, "streams": 4, "followers": 3, "all_accesses": False},
    "bingo": {"region": 8, "voters": 16, "votes": 0.2},
}


def test_domino_known_pair_replays_else_last_follower():
    domino = Domino(100, degree=3)
    for row in [1, 2, 3, 4, 5, 9, 2, 7]:
        domino.observe(row, "on_demand")
    # What followed 2 last was 7; after 1 and 2 together came 3, 4, 5.
    assert domino.observe(1, "on_demand") == [2]
    assert domino.observe(2, "prefetched") == [3, 4, 5]
    assert domino.observe(3, "prefetched") == [9]  # a use has the stream go on
    assert domino.observe(4, "resident") == []


def test_bingo_prefers_same_row_to_same_place():
    bingo = Bingo(np.zeros(64, dtype=np.uint32), region=8, active=1, history=10, votes=0.5)
    for row in [0, 3, 8, 9, 16, 17]:  # three regions, each begun at its first row
        bingo.observe(row, "on_demand")
    assert bingo.observe(0, "on_demand") == [3]  # as it was
    assert bingo.observe(24, "on_demand") == [25]  # as two of the three last were


def test_predicted_prefetches_rows_of_each_access():
    predicted = Predicted(all_accesses=False)
    predicted.append(np.array([5, 6, 7], dtype=np.uint64), np.array([0, 2, 2, 3], dtype=np.uint64))
    assert predicted.observe(1, "on_demand") == [5, 6]
    predicted.append(np.array([8, 9], dtype=np.uint64), np.array([0, 1, 2], dtype=np.uint64))
    assert predicted.observe(1, "prefetched") == []
    assert predicted.observe(1, "resident") == []
    assert predicted.observe(1, "prefetched") == [8]
    assert predicted.observe(1, "on_demand") == [9]
    with pytest.raises(RuntimeError, match="no predicted rows"):
        predicted.observe(1, "on_demand")


def test_simulator_access_without_predictions_raises():
    predicted = Predicted(all_accesses=True)
    predicted.append(np.array([4], dtype=np.uint64), np.array([0, 1], dtype=np.uint64))
    simulator = PrefetchingSimulator("lru", 3, 10, predicted)
    with pytest.raises(RuntimeError, match="no predicted rows"):
        simulator.run(np.array([1, 4], dtype=np.uint64), [2])
    assert simulator.counts["prefetches_useful"] == 1


@pytest.mark.parametrize("offsets", [[], [0, 1], [1, 3], [0, 2, 1, 3]])
def test_predicted_invalid_offsets_raise(offsets):
    predicted = Predicted(all_accesses=True)
    with pytest.raises(ValueError, match="ascend from 0 to 3"):
        predicted.append(np.arange(3, dtype=np.uint64), np.array(offsets, dtype=np.uint64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NextRow(9, degree=0), "degree: .* expected 1 to 1024, got 0"),
        (lambda: CoOccurrence(0), "rows: .* expected 1 to .*, got 0"),
        (lambda: CoOccurrence(9, least_share=1.5), "least_share: .* expected 0 to 1, got 1.5"),
        (lambda: CoOccurrence(9, window=0), "window: .* got 0"),
        (lambda: Domino(9, followers=0), "followers: .* got 0"),
        (lambda: Domino(9, history=0), "history: .* got 0"),
        (lambda: Bingo([0], region=12), "region: .* expected a power of two, got 12"),
        (lambda: Bingo([0], region=128), "region: .* expected 2 to 64, got 128"),
        (lambda: Bingo([0], votes=-1), "votes: .* got -1"),
        (lambda: PrefetchingSimulator("mru", 1, 1, NextRow(1)), "mru"),
        (lambda: NextRow(9).observe(1, "hit"), "result: .* expected one of on_demand.* got 'hit'"),
    ],
)
def test_invalid_setting_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_row_out_of_range_raises():
    with pytest.raises(IndexError, match="row: out of range; expected below 3, got 3"):
        Bingo([0, 0, 0]).observe(3, "on_demand")
    simulator = PrefetchingSimulator("lru", 2, 3, NextRow(3))
    with pytest.raises(IndexError, match=r"access 1: .* expected below 3, got 3"):
        simulator.run(np.array([0, 3], dtype=np.uint64), [2])
    assert simulator.counts["lookups"] == 0
    with pytest.raises(ValueError, match="lengths"):
        simulator.run(np.array([0, 1], dtype=np.uint64), [1])


def test_abstract_prefetcher_raises():
    with pytest.raises(TypeError, match="abstract"):
        PrefetchingSimulator("lru", 2, 3, RowPrefetcher())

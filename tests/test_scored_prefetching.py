"""The scored simulator with a prefetcher: what it is told, what it counts, what goes wrong."""

from itertools import pairwise

import numpy as np
import pytest
from prefetcher_oracle import HORIZON, Successors, matrix

from tieralloc._core import (
    Prefetcher,
    RowHistory,
    ScoredSimulator,
    candidate_feature_names,
    next_uses,
    row_feature_names,
)

ROW_NAMES, NAMES = row_feature_names(), candidate_feature_names()
AGE, TABLE = ROW_NAMES.index("age"), ROW_NAMES.index("table")
GROUP, GROUPS = 5, 200
ROWS = GROUP * GROUPS
CAPACITY = 100


def stream(samples=4000, seed=0):
    """Samples of rows that always come together, in an order of their own."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, GROUPS, (samples, 1))
    rows = GROUP * groups + random.permuted(np.tile(np.arange(GROUP), (samples, 1)), axis=1)
    return rows.ravel().astype(np.uint64), np.full(samples, GROUP, dtype=np.uint32)


def uint64(rows):
    return np.array(rows, dtype=np.uint64)


def least_recent(features):
    return -features[:, AGE]


def no_chance(features):
    return np.zeros(len(features), dtype=np.float32)


def certainty(features):
    return np.ones(len(features), dtype=np.float32)


def simulator(score_ahead=None, capacity=CAPACITY, **options):
    if score_ahead is not None:
        options |= {"prefetcher": Prefetcher(20_000, 0.04), "score_ahead": score_ahead}
    history = RowHistory(np.arange(ROWS + 1), ROWS)  # each row is a table, for scorers to tell
    return ScoredSimulator(
        history, capacity, least_recent, **{"candidates": 64, "victims": 4, **options}
    )


def counts_of(made, accesses=(), lengths=()):
    """Replay, and check that counts add up."""
    made.run(uint64(accesses), lengths)
    counts = made.counts
    assert counts["hits"] + counts["on_demand_fetches"] == counts["lookups"]
    # The others are still there, or on the way.
    settled = sum(counts[f"prefetches_{fate}"] for fate in ("useful", "late", "useless"))
    assert 0 <= counts["prefetches_issued"] - settled <= CAPACITY + HORIZON
    return counts


def run_foreseeing(accesses, lengths, **options):
    """Replay with a scorer that knows which candidates come within the horizon."""
    following = next_uses(accesses, ROWS).astype(np.int64)
    last = np.full(ROWS, -1)
    begin = 0

    def note(end):
        np.maximum.at(last, accesses[begin:end].astype(int), np.arange(begin, end))

    def score(features):
        rows = features[:, TABLE].astype(int)
        position = round(2.0 ** float(features[0, len(ROW_NAMES) + NAMES.index("position")]) - 1)
        now = begin + position - 1
        note(now + 1)
        return (following[last[rows]] - now <= HORIZON).astype(np.float32)

    made = simulator(score, **options)
    for length in lengths.tolist():
        made.run(accesses[begin : begin + length], [length])
        note(begin + length)
        begin += length
    return counts_of(made)


def test_who_knows_what_comes_saves_most_fetches_and_wastes_none():
    accesses, lengths = stream()
    without = counts_of(simulator(), accesses, lengths)
    found = run_foreseeing(accesses, lengths)
    # The first row of a sample is missed nevertheless, and so is what nobody has seen.
    assert without["on_demand_fetches"] > 0.8 * len(accesses)
    assert found["on_demand_fetches"] < 0.3 * without["on_demand_fetches"]
    assert found["prefetches_useful"] > 0.95 * found["prefetches_issued"]
    assert found["prefetches_late"] == 0


def test_rows_in_flight_are_late():
    accesses, lengths = stream()
    counts = [run_foreseeing(accesses, lengths, lag=lag) for lag in (0, 1, 3, GROUP)]
    for fewer, more in pairwise(counts):
        assert fewer["prefetches_late"] < more["prefetches_late"]
        assert fewer["on_demand_fetches"] < more["on_demand_fetches"]
    # By then the sample is over.
    assert counts[-1]["prefetches_late"] > 0.9 * counts[-1]["prefetches_issued"]


@pytest.mark.parametrize("lag", [0, 7])
def test_where_there_is_no_chance_nothing_changes(lag):
    accesses, lengths = stream(1000)
    asked = []

    def score(features):
        asked.append(len(features))
        return no_chance(features)

    found = counts_of(simulator(score, lag=lag, count_from=100), accesses[100:], lengths[20:])
    assert found == counts_of(simulator(count_from=100), accesses[100:], lengths[20:])
    assert asked


def test_what_is_always_certain_and_rarely_right_costs_little():
    random = np.random.default_rng(3)
    accesses = random.integers(0, ROWS, 60_000).astype(np.uint64)
    lengths = np.full(12_000, GROUP, dtype=np.uint32)
    without = counts_of(simulator(), accesses, lengths)
    found = counts_of(simulator(certainty), accesses, lengths)
    assert found["prefetches_useless"] > 0
    assert found["on_demand_fetches"] < 1.02 * without["on_demand_fetches"]


def test_the_prefetch_model_sees_each_moments_candidates_that_are_not_resident():
    accesses, lengths = stream(60)
    seen = []

    def score(features):
        seen.append(features.copy())
        return no_chance(features)

    made = simulator(score, candidates=2000, victims=1)  # the least recently used leaves
    made.run(accesses, lengths)
    successors, resident = Successors(20_000), []
    history = RowHistory(np.arange(ROWS + 1), ROWS)
    for sample in accesses.reshape(-1, GROUP):
        successors.begin_sample()
        told = []
        for row in sample.tolist():
            resident = [*[other for other in resident if other != row], row][-CAPACITY:]
            found = dict(successors.observe(row))
            told.append({it: found[it] for it in sorted(found) if it not in resident})
        history.observe(sample)
        told = [expected for expected in told if expected]
        for expected in told:
            features = seen.pop(0)
            assert features[:, TABLE].tolist() == list(expected)
            np.testing.assert_allclose(
                features[:, len(ROW_NAMES) :], matrix(expected, NAMES), atol=0.01
            )
        if told and told[-1] is found:
            assert (features[:, : len(ROW_NAMES)] == history.features(uint64(list(found)))).all()
    assert seen == []


def test_nothing_is_fetched_ahead_until_it_is_guided():
    accesses, lengths = stream(400)
    found = counts_of(simulator(certainty, guide_from=1000), accesses[:1000], lengths[:200])
    assert found == counts_of(simulator(), accesses[:1000], lengths[:200])
    late = simulator(certainty, guide_from=1000)
    late.run(accesses[:1000], lengths[:200])
    assert late.counts["prefetches_issued"] == 0
    late.run(accesses[1000:], lengths[200:])
    assert late.counts["prefetches_useful"] > 0


def test_what_the_prefetcher_was_given_stays_as_it_is():
    accesses, lengths = stream(100)
    given = Prefetcher(20_000, 0.04)
    made = ScoredSimulator(
        RowHistory([0, ROWS], ROWS),
        CAPACITY,
        least_recent,
        candidates=8,
        victims=1,
        prefetcher=given,
        score_ahead=certainty,
    )
    assert counts_of(made, accesses, lengths)["prefetches_issued"] > 0
    assert given.trust == 1
    assert len(given.candidates(RowHistory([0, ROWS], ROWS))[0]) == 0


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (lambda features: 1 / 0, ZeroDivisionError, "division"),
        (lambda features: certainty(features)[1:], ValueError, "there are 0 scores, expected 1"),
        (lambda features: certainty(features)[:, None], ValueError, "wrong number of dimensions"),
        (lambda features: certainty(features).astype(float), ValueError, "Buffer dtype mismatch"),
        (lambda features: certainty(features) + np.nan, ValueError, "chance of row 7 is -?nan"),
        (lambda features: 2 * certainty(features), ValueError, "is 2.0*, expected 0 to 1"),
    ],
)
def test_what_goes_wrong_in_a_prefetch_model_comes_out(answer, error, told):
    made = simulator(answer, capacity=1)
    with pytest.raises(error, match=told):
        made.run(uint64([6, 7, 6]), [2, 1])
    assert made.counts["lookups"] == 3


def test_a_prefetcher_and_its_model_come_together():
    for half in ({"prefetcher": Prefetcher(9, 0.5)}, {"score_ahead": certainty}):
        with pytest.raises(ValueError, match="expected both or neither"):
            ScoredSimulator(RowHistory([0, 9], 9), 3, least_recent, candidates=1, victims=1, **half)

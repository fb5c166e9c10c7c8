"""The scored simulator: who leaves, when a model is asked and what it is told."""

import numpy as np
import pytest

from tieralloc._core import RowHistory, ScoredSimulator, Simulator, row_feature_names

NAMES = row_feature_names()
AGE, COUNT = NAMES.index("age"), NAMES.index("count")
ROWS = 60


def uint64(rows):
    return np.array(rows, dtype=np.uint64)


def stream(seed=0, length=3000):
    popular = np.minimum(np.random.default_rng(seed).geometric(0.06, length), ROWS) - 1
    return popular.astype(np.uint64), np.full(length // 5, 5, dtype=np.uint32)


def simulator(score, capacity=10, candidates=2000, victims=1, **options):
    history = RowHistory([0, ROWS], ROWS)
    return ScoredSimulator(
        history, capacity, score, candidates=candidates, victims=victims, **options
    )


def test_scores_of_recency_are_lru():
    accesses, lengths = stream()
    made = simulator(lambda features: -features[:, AGE], count_from=500)
    made.run(accesses, lengths)
    lru = Simulator("lru", 10, ROWS, count_from=500)
    lru.run(accesses)
    assert made.counts == lru.counts


def test_scores_of_counts_are_lfu_with_memory():
    accesses, lengths = stream(1)
    made = simulator(lambda features: features[:, COUNT])
    made.run(accesses, lengths)
    counts, resident, misses = np.zeros(ROWS, int), [], 0
    for row in accesses.tolist():
        counts[row] += 1
        if row in resident:
            continue
        misses += 1
        if len(resident) == 10:
            # Of equal counts, whoever is in the slot of the lowest number.
            place = min(range(10), key=lambda at: (counts[resident[at]], at))
            resident[place] = row
        else:
            resident.append(row)
    assert made.counts["on_demand_fetches"] == misses


def test_the_model_sees_what_the_history_says_at_that_moment():
    accesses, lengths = stream(2, 300)
    asked = []
    made = simulator(lambda features: (asked.append(features.copy()), -features[:, AGE])[1])
    made.run(accesses, lengths)
    history, residents = RowHistory([0, ROWS], ROWS), []
    for begin in range(0, 300, 5):
        for end in range(begin + 1, begin + 6):
            row = int(accesses[end - 1])
            if row not in residents and len(residents) == 10:
                fresh = RowHistory([0, ROWS], ROWS)
                fresh.observe(accesses[:end], [*[5] * (begin // 5), end - begin])
                expected = fresh.features(uint64(sorted(residents)))
                found = asked.pop(0)
                assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
                residents.pop(0)
            residents = [other for other in residents if other != row] + [row]
    assert asked == []
    del history


def test_several_victims_are_advised_by_one_call():
    accesses, lengths = stream()
    calls = {1: 0, 4: 0}

    def score(features):
        calls[victims] += 1
        return -features[:, AGE]

    for victims in calls:
        made = simulator(score, victims=victims)
        made.run(accesses, lengths)
    assert calls[1] / 4 <= calls[4] < calls[1] / 2


def test_until_it_is_guided_lru_decides():
    accesses, lengths = stream()
    calls = []

    def worst_first(features):
        calls.append(len(features))
        return features[:, AGE]

    made = simulator(worst_first, guide_from=3000)
    made.run(accesses, lengths)
    lru = Simulator("lru", 10, ROWS)
    lru.run(accesses)
    assert (made.counts, calls) == (lru.counts, [])
    made.run(accesses[:500], lengths[:100])
    assert calls
    lru.run(accesses[:500])
    assert made.counts["on_demand_fetches"] > lru.counts["on_demand_fetches"]


def test_the_seed_decides_who_is_drawn():
    accesses, lengths = stream()
    counts = []
    for seed in (1, 1, 2):
        made = simulator(lambda features: features[:, COUNT], candidates=3, seed=seed)
        made.run(accesses[:1000], lengths[:200])
        made.run(accesses[1000:], lengths[200:])
        counts.append(made.counts)
    assert counts[0] == counts[1] != counts[2]


def drifting(length=60_000, rows=600, seed=3):
    """Popular rows that become others now and then: the least recent are of no use any more."""
    random = np.random.default_rng(seed)
    ranks = np.minimum(random.geometric(0.02, length), rows) - 1
    offsets = np.arange(length) // 5000 * 37
    return ((ranks + offsets) % rows).astype(np.uint64), np.full(length // 5, 5, dtype=np.uint32)


def test_a_rival_that_misses_less_decides_and_a_better_model_gets_it_back():
    accesses, lengths = drifting()
    half = len(accesses) // 2
    worse = True

    def score(features):
        return features[:, AGE] if worse else -features[:, AGE]  # most recent first, or LRU

    def made(**options):
        history = RowHistory([0, 600], 600)
        return ScoredSimulator(history, 60, score, candidates=64, victims=4, **options)

    guarded, alone, lru = made(rivals=["lru"]), made(), Simulator("lru", 60, 600)
    for simulated in (guarded, alone):
        simulated.run(accesses[:half], lengths[: half // 5])
    lru.run(accesses[:half])
    missed = lru.counts["on_demand_fetches"]
    assert alone.counts["on_demand_fetches"] > 1.5 * missed
    assert guarded.counts["on_demand_fetches"] < 1.02 * missed + 24 * 4 + 60
    assert guarded.switches == 1
    before = guarded.counts["on_demand_fetches"]
    # What the model would have is LRU too now, drawn at random: neither is ahead by much.
    worse = False
    guarded.run(accesses[half:], lengths[half // 5 :])
    lru.run(accesses[half:])
    later = guarded.counts["on_demand_fetches"] - before
    assert later < 1.03 * (lru.counts["on_demand_fetches"] - missed) + 100


def test_a_model_that_is_ahead_is_left_alone_whatever_its_rivals():
    accesses, lengths = stream(length=20_000)
    made, alone = (
        simulator(lambda features: features[:, COUNT], rivals=rivals)
        for rivals in (["lru", "s3fifo", "sieve"], [])
    )
    for simulated in (made, alone):
        simulated.run(accesses, lengths)
    assert made.switches == 0
    assert made.counts == alone.counts


@pytest.mark.parametrize("seed", range(4))
def test_what_a_sample_of_rows_gets_wrong_puts_no_rival_in_charge(seed):
    rows, capacity = 9000, 8192  # of which a quarter is in the sample, or some more
    accesses = uint64(np.random.default_rng(seed).integers(0, rows, 60_000))
    made = ScoredSimulator(
        RowHistory(np.array([0, rows]), rows),
        capacity,
        lambda features: -features[:, AGE],
        candidates=64,
        victims=4,
        rivals=["lru"],
        seed=seed,
    )
    made.run(accesses, np.full(len(accesses) // 5, 5, dtype=np.uint32))
    assert made.switches == 0


def test_an_unknown_rival_is_named():
    with pytest.raises(ValueError, match="best"):
        simulator(lambda features: features[:, COUNT], rivals=["best"])


def test_what_goes_wrong_in_a_model_comes_out():
    accesses, lengths = stream()
    for answer, error, told in (
        (lambda features: 1 / 0, ZeroDivisionError, "division"),
        (lambda features: features[:3, 0], ValueError, "there are 3 scores, expected 10"),
        (lambda features: features[:, 0].astype(float), ValueError, "Buffer dtype mismatch"),
        (lambda features: features[:, 0] + np.nan, RuntimeError, "score of row .* is -?nan"),
    ):
        with pytest.raises(error, match=told):
            simulator(answer).run(accesses, lengths)


def test_what_does_not_fit_is_refused_and_nothing_replayed():
    made = simulator(lambda features: features[:, 0])
    with pytest.raises(ValueError, match="sample_lengths add up to 1, expected 2"):
        made.run(uint64([1, 2]), [1])
    with pytest.raises(IndexError, match="row 60, expected below 60"):
        made.run(uint64([1, 60]), [2])
    assert made.counts["lookups"] == 0
    with pytest.raises(ValueError, match="capacity is 0"):
        simulator(None, capacity=0)
    with pytest.raises(ValueError, match="victims are 3, expected at least 1 and at most the 2"):
        simulator(None, candidates=2, victims=3)

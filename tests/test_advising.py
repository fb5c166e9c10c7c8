"""Decisions of a brain applied to a tier: the simulated one, step by step."""

import numpy as np
import pytest

import tieralloc as ta
from tieralloc._advising import Adviser, ModelError, make_guard, simulate_advised
from tieralloc._core import Guard, ShadowTier, Simulator

torch = pytest.importorskip("torch")

from runtime_support import (  # noqa: E402
    Broken,
    brain_of,
    least_frequent,
    least_recent,
    most_recent,
)

ROWS = 6000
CAPACITY = 300


@pytest.fixture(scope="module")
def trace():
    return ta.trace.generate(
        num_tables=2, num_embeddings=[3000, 3000], num_samples=2500, mean_pooling_factor=6, seed=4
    )


def misses(trace, brain, **options):
    counts = simulate_advised(
        trace.accesses(), trace.lengths.sum(axis=0).astype(np.uint32), CAPACITY, brain, **options
    )
    assert counts["lookups"] == counts["hits"] + counts["on_demand_fetches"]
    return counts["on_demand_fetches"]


def simulated(trace, policy):
    simulator = Simulator(policy, CAPACITY, ROWS)
    simulator.run(trace.accesses())
    return simulator.counts["on_demand_fetches"]


def test_a_brain_that_ranks_as_lru_misses_about_what_lru_does(trace):
    advised = misses(trace, least_recent(ROWS), fallback="random", step=8)
    assert abs(advised / simulated(trace, "lru") - 1) < 0.02


def test_decisions_that_come_late_are_worth_less_and_still_something(trace):
    worth = {
        step: misses(trace, least_frequent(ROWS), fallback="random", step=step)
        for step in (8, 64, 2048)
    }
    assert worth[8] < simulated(trace, "random")
    assert worth[2048] < simulated(trace, "random") * 1.01
    assert worth[8] <= worth[2048]


def test_most_who_leave_are_advised_to(trace):
    counts = simulate_advised(
        trace.accesses(),
        trace.lengths.sum(axis=0).astype(np.uint32),
        CAPACITY,
        least_recent(ROWS),
        step=64,
    )
    assert counts["advised_evictions"] > 0.9 * counts["evictions"] > 0


def test_what_is_not_counted_only_warms_the_tier(trace):
    accesses = trace.accesses()
    lengths = trace.lengths.sum(axis=0).astype(np.uint32)
    half = len(accesses) // 2
    seen = []
    counts = simulate_advised(
        accesses, lengths, CAPACITY, least_recent(ROWS), count_from=half, report=seen.append
    )
    assert sum(seen) == len(accesses)
    assert 0 <= len(accesses) - half - counts["lookups"] < 256 + lengths.max()


@pytest.mark.parametrize("fallback", ["lru", "s3fifo"])
def test_a_guard_keeps_a_bad_brain_near_the_best_simple_policy(trace, fallback):
    best = min(simulated(trace, policy) for policy in ("lru", "s3fifo", "sieve"))
    bad = misses(trace, most_recent(ROWS), fallback=fallback)
    guard = make_guard(CAPACITY, fallback)
    guarded = misses(trace, most_recent(ROWS), fallback=fallback, guard=guard)
    assert bad > 1.1 * best
    assert guard.choice is not None
    assert guarded - best < 0.5 * (bad - best)  # the time it took to find out included


def shuffled(accesses, rows, rng):
    """Other names for all rows from some point on: what was learned is void."""
    at = int(0.6 * len(accesses))
    return np.concatenate([accesses[:at], rng.permutation(rows).astype(np.uint64)[accesses[at:]]])


def drifting(accesses, rows, rng):
    """Other names for a few rows after each few accesses."""
    names = np.arange(rows, dtype=np.uint64)
    pieces = []
    for piece in np.array_split(accesses, 200):
        pieces.append(names[piece])
        some = rng.choice(rows, rows // 50, replace=False)
        names[some] = names[np.roll(some, 1)]
    return np.concatenate(pieces)


def scanned(accesses, rows, rng):
    """Between the accesses runs through rows one after another."""
    pieces = np.array_split(accesses, 40)
    scans = np.array_split(rng.permutation(rows).astype(np.uint64), 10) * 4
    return np.concatenate([part for pair in zip(pieces, scans, strict=True) for part in pair])


@pytest.mark.parametrize("brain", [least_frequent, most_recent])
@pytest.mark.parametrize("change", [shuffled, drifting, scanned])
def test_a_guarded_brain_is_never_far_above_the_best_simple_policy(change, brain):
    trace = ta.trace.generate(
        num_tables=2, num_embeddings=[16000, 8000], num_samples=12000, mean_pooling_factor=6, seed=4
    )
    rows = 24000
    accesses = change(trace.accesses(), rows, np.random.default_rng(1))
    half = len(accesses) // 2
    lengths = np.full(-(-len(accesses) // 12), 12, dtype=np.uint32)
    lengths[-1] = len(accesses) - 12 * (len(lengths) - 1)
    for fraction in (0.01, 0.05, 0.1, 0.2):
        capacity = int(fraction * rows)
        ratios = []
        for policy in ("lru", "s3fifo", "sieve"):
            simulator = Simulator(policy, capacity, rows, count_from=half)
            simulator.run(accesses)
            counts = simulator.counts
            ratios.append(counts["on_demand_fetches"] / counts["lookups"])
        guard = make_guard(capacity, "s3fifo")
        counts = simulate_advised(
            accesses, lengths, capacity, brain(rows), guard=guard, step=64, count_from=half
        )
        assert counts["on_demand_fetches"] / counts["lookups"] < 1.02 * min(ratios)


class Foretelling:
    """Decides as LRU does, and has the rows of the next samples fetched ahead, or others."""

    def __init__(self, trace, right):
        self._inner = least_recent(ROWS)
        self.looks_ahead = True
        self._accesses = trace.accesses()
        self._right = right
        self._now = 0

    def observe(self, rows, lengths):
        self._inner.observe(rows, lengths)
        self._now += len(rows)

    def score(self, rows):
        return self._inner.score(rows)

    def prefetches(self, find_absent):
        ahead = np.unique(self._accesses[self._now : self._now + 40])
        if not self._right:
            ahead = (ahead * np.uint64(7919) + np.uint64(self._now)) % np.uint64(ROWS)
        return ahead[find_absent(ahead)]


def test_what_is_rightly_foretold_is_fetched_ahead(trace):
    guard = make_guard(CAPACITY, "lru", ahead=True)
    without = misses(trace, least_recent(ROWS), fallback="lru", step=8)
    assert (
        misses(trace, Foretelling(trace, True), fallback="lru", step=8, guard=guard) < 0.2 * without
    )
    assert guard.fetches_ahead
    assert guard.ahead_switches == 1
    assert guard.ahead_miss_ratio < 0.2 * guard.miss_ratios[None]


def test_what_is_wrongly_foretold_does_no_harm(trace):
    guard = Guard(CAPACITY, ["lru"], ahead=True, scouting=1 << 20)
    without = misses(trace, least_recent(ROWS), fallback="lru", step=8)
    unguarded = misses(trace, Foretelling(trace, False), fallback="lru", step=8)
    guarded = misses(trace, Foretelling(trace, False), fallback="lru", step=8, guard=guard)
    assert unguarded > 1.05 * without
    assert guarded < 1.005 * without
    assert not guard.fetches_ahead
    assert guard.ahead_miss_ratio > 1.05 * guard.miss_ratios[None]


def test_a_brain_is_asked_what_to_fetch_ahead_now_and_then_where_it_does_not_pay(trace):
    class Watched(Foretelling):
        steps = asked = 0

        def observe(self, rows, lengths):
            super().observe(rows, lengths)
            self.steps += 1

        def prefetches(self, find_absent):
            assert self.looks_ahead
            self.asked += 1
            return super().prefetches(find_absent)

    def watched(right, scouting):
        brain = Watched(trace, right)
        guard = Guard(CAPACITY, ["lru"], ahead=True, scouting=scouting)
        misses(trace, brain, fallback="lru", step=8, guard=guard)
        return brain, guard

    wrong, guard = watched(False, 256)
    assert 0 < wrong.asked < wrong.steps / 8
    assert not guard.fetches_ahead
    right, guard = watched(True, 256)
    assert right.asked == right.steps
    assert guard.fetches_ahead


def test_without_a_guard_a_brain_is_always_asked_what_to_fetch_ahead(trace):
    brain = Foretelling(trace, False)
    tier = ShadowTier("lru", CAPACITY)
    adviser = Adviser(tier, brain, fallback="lru")
    for _ in range(3):
        adviser.step(lambda: (np.arange(9, dtype=np.uint64), np.array([9], dtype=np.uint32)))
        assert brain.looks_ahead
    assert tier.prefetches["prefetches_issued"] > 0


def test_a_guard_leaves_a_good_brain_in_charge(trace):
    guard = Guard(CAPACITY, ["random"])
    alone = misses(trace, least_recent(ROWS), fallback="random")
    guarded = misses(trace, least_recent(ROWS), fallback="random", guard=guard)
    assert guard.choice is None
    assert guard.switches == 0
    assert guarded == alone
    assert guard.miss_ratios[None] < guard.miss_ratios["random"]


def stepped(trace, brain, guard, fallback="random"):
    """Serve a trace from a tier that a brain advises; return both."""
    tier = ShadowTier(fallback, CAPACITY)
    adviser = Adviser(tier, brain, fallback=fallback, guard=guard)
    for rows in np.array_split(trace.accesses(), 1000):
        tier.run(rows)
        adviser.step(lambda rows=rows: (rows, np.array([len(rows)], dtype=np.uint32)))
    return adviser, tier


def test_what_a_brain_avoids_is_beside_the_best_simple_policy(trace):
    good, _ = stepped(trace, least_recent(ROWS), Guard(CAPACITY, ["random"]))
    ratios = good.guard.miss_ratios
    assert good.in_charge is None
    assert good.avoided() == pytest.approx(ratios["random"] / ratios[None] - 1)
    assert good.avoided() > 0
    bad, _ = stepped(trace, most_recent(ROWS), Guard(CAPACITY, ["random", "lru"]))
    ratios = bad.guard.miss_ratios
    assert bad.in_charge == "lru"
    assert bad.avoided() == pytest.approx(1 - ratios[None] / ratios["lru"])
    assert bad.avoided() < 0


def test_what_is_fetched_ahead_counts_as_avoided_once_it_is_fetched(trace):
    guard = make_guard(CAPACITY, "lru", ahead=True)
    adviser, _ = stepped(trace, Foretelling(trace, True), guard, "lru")
    assert adviser.fetches_ahead
    assert adviser.avoided() > 4


@pytest.mark.parametrize("fallback", ["lru", "random"])
def test_while_a_brain_rests_the_best_simple_policy_decides(trace, fallback):
    guard = Guard(CAPACITY, ["random", "lru"])
    adviser, tier = stepped(trace, least_recent(ROWS), guard, fallback)
    adviser.rest()
    assert adviser.in_charge == adviser.fallback == "lru"
    before = tier.view()[1][0]
    assert before["advised_rows"] == 0
    tier.run(trace.accesses()[:3000])
    after = tier.view()[1][0]
    assert after["evictions"] > before["evictions"]
    assert after["advised_evictions"] == before["advised_evictions"]


def test_after_a_rest_a_brain_advises_again_and_not_for_what_left_meanwhile(trace):
    adviser, tier = stepped(trace, least_recent(ROWS), Guard(CAPACITY, ["random"]))
    adviser.rest()
    tier.run(trace.accesses())
    one = np.zeros(1, dtype=np.uint64)
    for _ in range(2):  # the first one finds who is in charge
        adviser.step(lambda: (one, np.ones(1, dtype=np.uint32)))
    assert adviser.in_charge is None
    assert 0 < tier.view()[1][0]["advised_rows"] < CAPACITY / 8


@pytest.mark.parametrize(
    ("how", "message"),
    [("nan", "1 of [0-9]+ scores are NaN"), ("shape", "shape"), ("integers", "int64")],
)
def test_what_is_no_score_is_an_error(how, message):
    tier = ShadowTier("lru", 50)
    adviser = Adviser(tier, brain_of(Broken(how), 100), fallback="lru")
    rows = np.arange(60, dtype=np.uint64)

    def serve():
        for _ in range(10):
            tier.run(rows)
            adviser.step(lambda: (rows, np.array([60], dtype=np.uint32)))

    with pytest.raises(ModelError, match=message):
        serve()

"""Pairs of caching and prefetching policies, simulated on a trace side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tieralloc.policies.baselines.baseline import Tier
from tieralloc.policies.baselines.registry import baseline_names
from tieralloc.policies.baselines.scene import Scene
from tieralloc.policies.baselines.tuning import TEST_SHARE, defaults, tune

from bench.scenery.traces import COUNT_FROM
from tieralloc._bindings import eviction_policy_bytes
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.simulate import count_record
from tieralloc.trace.stream import Stream, count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from tieralloc.policies.baselines.baseline import Baseline
    from tieralloc.policies.recmg.policy import RecmgPolicy

    from tieralloc._bindings import PlannedModel
    from tieralloc.trace import Trace

Record = dict[str, Any]

NONE, RECMG = "none", "recmg"


@dataclass(frozen=True)
class Pair:
    """A caching and a prefetching policy."""

    caching: str
    prefetching: str

    @property
    def policy(self) -> str:
        """Name in records: ``lru``, ``lru+domino``, ``recmg-caching``, ``recmg``."""
        if self.caching == RECMG:
            return RECMG if self.prefetching == RECMG else f"{RECMG}-caching"
        return self.caching if self.prefetching == NONE else f"{self.caching}+{self.prefetching}"


#: The compared pairs, by the name of their policy; LRU first.
PAIRS = {
    pair.policy: pair
    for pair in (
        *(Pair(one, other) for one in ("lru", "s3fifo") for other in (NONE, *baseline_names())),
        Pair(RECMG, NONE),
        Pair(RECMG, RECMG),
    )
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """A trace, and the policies of the pairs; ValueError for policies of other tables."""

    #: Its first half trains policies, tunes settings and warms up the fast tier; the second half is
    #: counted.
    trace: Trace
    baselines: Mapping[str, Baseline]  # baselines by the names in pairs
    #: Trained policies by the names of their pairs, such as "recmg-caching".
    learned: Mapping[str, RecmgPolicy]
    #: Whether baselines' settings are chosen first, for each caching and capacity: they are tested
    #: on the last fifth of the training accesses.
    tuned: bool = True

    def __post_init__(self) -> None:
        for policy in self.learned.values():
            policy.check(self.trace)

    @cached_property
    def stream(self) -> Stream:
        """All accesses."""
        return Stream.of(self.trace)

    @cached_property
    def counted(self) -> int:
        """The number of the first counted access."""
        return first_counted(len(self.stream.accesses), COUNT_FROM)

    @cached_property
    def scene(self) -> Scene:
        """The replay of the baselines."""
        return Scene(self.stream, self.counted)

    @cached_property
    def trial(self) -> Scene:
        """The replay of the tuning, with only uncounted accesses."""
        past = Stream.of(self.trace, COUNT_FROM)
        return Scene(past, int(self.counted * (1 - TEST_SHARE)))

    def measure(self, pair: Pair, fraction: float, lag: int = 0) -> Record:
        """Simulate a pair at a capacity, one access at a time; prefetches take `lag` accesses.

        The record has the fields of `simulate`, and prefetch_lag, cpu_us_per_access, policy_bytes;
        of a baseline also the settings that differ from its defaults and, if tuned, tuning: the
        number of settings tried, and the test miss ratios of the defaults and of the best.
        """
        rows = fast_rows(fraction, count_distinct(self.stream.accesses, self.stream.rows))
        extra: Record = {}
        if pair.caching == RECMG:
            model = self.learned[pair.policy].model_for(rows)
            counts, nbytes, seconds = self._simulate(model, rows, lag)
        elif pair.prefetching == NONE:
            counts, nbytes, seconds = self._simulate(pair.caching, rows, lag)
        else:
            baseline, tier = self.baselines[pair.prefetching], Tier(pair.caching, rows, lag)
            settings = first = defaults(baseline)
            if self.tuned:
                tuned = tune(baseline, self.trial, tier)
                settings = tuned.settings
                extra["tuning"] = [len(tuned.tried), tuned.tried[0][1], tuned.miss_ratio]
            extra["settings"] = {k: v for k, v in settings.items() if v != first[k]}
            baseline.prepare(self.scene, settings)
            began = time.process_time()
            outcome = baseline.replay(self.scene, tier, settings, count_from=self.counted)
            counts = outcome.counts
            nbytes = outcome.nbytes + eviction_policy_bytes(pair.caching, rows)
            seconds = time.process_time() - began + outcome.predict_seconds
        return {
            **count_record(pair.policy, self.trace.name, fraction, rows, counts),
            "prefetch_lag": lag,
            "cpu_us_per_access": 1e6 * seconds / len(self.stream.accesses),
            "policy_bytes": nbytes,
            **extra,
        }

    def _simulate(
        self, policy: str | PlannedModel, rows: int, lag: int
    ) -> tuple[Mapping[str, int], int, float]:
        """Return counts, bytes of state and CPU seconds."""
        began = time.process_time()
        simulator = run_simulator(
            self.stream,
            policy,
            rows,
            count_from=self.counted,
            prefetch_lag=lag,
            prefetch_cost=PREFETCH_COST,
        )
        seconds = time.process_time() - began
        simple = eviction_policy_bytes(policy, rows) if isinstance(policy, str) else 0
        return simulator.counts, simple + simulator.policy_bytes, seconds

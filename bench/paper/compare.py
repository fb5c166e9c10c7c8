"""Pairs of caching and prefetching policies, simulated on a trace side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tieralloc.policies.baselines.baseline import Tier
from tieralloc.policies.baselines.registry import baseline_names
from tieralloc.policies.baselines.scene import Scene
from tieralloc.policies.baselines.tuning import TEST_SHARE, Tuned, defaults, tune

from tieralloc._bindings import eviction_policy_bytes, eviction_policy_names
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools import machine as _machine
from tieralloc.tools.report import percent
from tieralloc.tools.simulate import count_record
from tieralloc.trace.stream import Stream, count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tieralloc.policies.baselines.baseline import Baseline
    from tieralloc.policies.recmg.policy import RecmgPolicy

    from tieralloc._bindings import PlannedModel
    from tieralloc.trace import Trace

NONE, RECMG = "none", "recmg"


def caching_names() -> list[str]:
    """Names of the caching policies, in the order they are listed to users."""
    return [*eviction_policy_names(), RECMG]


def prefetching_names() -> list[str]:
    """Names of the prefetchers."""
    return [NONE, *baseline_names(), RECMG]


@dataclass(frozen=True)
class Cell:
    """A pair."""

    caching: str
    prefetching: str

    @property
    def policy(self) -> str:
        """Name in records: ``lru``, ``lru+domino``, ``recmg-caching``, ``recmg``."""
        if self.caching == RECMG:
            return RECMG if self.prefetching == RECMG else f"{RECMG}-caching"
        return self.caching if self.prefetching == NONE else f"{self.caching}+{self.prefetching}"


def cells_of(caching: Sequence[str], prefetching: Sequence[str]) -> list[Cell]:
    """Pair caching with prefetching: recmg with none and its own, simple policies with all others.

    Raises
    ------
    ValueError
        If a name is unknown, or prefetching recmg is without caching recmg.
    """
    for what, names, known in (
        ("caching", caching, caching_names()),
        ("prefetching", prefetching, prefetching_names()),
    ):
        for name in names:
            if name not in known:
                raise ValueError(f"{what}: unknown {name!r}; expected one of {', '.join(known)}")
    if RECMG in prefetching and RECMG not in caching:
        raise ValueError(
            f"prefetching: {RECMG} needs caching {RECMG}; expected it in caching, got "
            f"{', '.join(caching)}"
        )
    return [
        Cell(one, other)
        for one in caching
        for other in prefetching
        if (other in (NONE, RECMG) if one == RECMG else other != RECMG)
    ]


@dataclass
class Comparison:
    """Records, and the settings that tuning tried.

    Parameters
    ----------
    records : list of dict
        One a pair and capacity: those of `simulate`, and caching, prefetching, prefetches_useless,
        prefetch_lag, coverage, accuracy, lateness, to_lru, cpu_us_per_access, policy_bytes,
        settings, machine.
    tried : list of dict
        One a setting tried: trace, caching, prefetching, fast_fraction, fast_rows, prefetch_lag,
        settings, and their miss_ratio on the accesses tested on.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)


def compare(
    trace: Trace,
    cells: Sequence[Cell],
    fast_fractions: Sequence[float],
    count_from: float = 0.5,
    *,
    baselines: Mapping[str, Baseline],
    learned: Mapping[str, RecmgPolicy],
    tuned: bool = True,
    lag: int = 0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda accesses: None,
    waiting: Callable[[str], AbstractContextManager[object]] = lambda what: nullcontext(),
) -> Comparison:
    """Simulate each pair on a trace at each capacity, one access at a time.

    Parameters
    ----------
    trace : Trace
        The trace to replay.
    cells : sequence of Cell
        The pairs.
    fast_fractions : sequence of float
        Capacities as fractions of the distinct rows of the whole trace, rounded down.
    count_from : float
        Share of the accesses before the counted ones, in (0, 1): they train policies, tune settings
        and warm up the fast tier.
    baselines : mapping of str to Baseline
        Baselines by the names in pairs.
    learned : mapping of str to RecmgPolicy
        Trained policies by the names of their pairs, such as "recmg-caching".
    tuned : bool
        Whether baselines' settings are chosen first, for each caching and capacity: they are
        tested on the last fifth of the training accesses.
    lag : int
        Accesses for which a prefetched row is in flight.
    seed : int
        Random seed of the baselines.
    progress : callable
        Called with the number of accesses just replayed; the sum is ``len(cells) *
        len(fast_fractions)`` times those of the trace.
    waiting : callable
        Returns a context that shows a text during work without `progress`.

    Raises
    ------
    ValueError
        If a fraction is out of range, the trace is empty, or a policy was trained for other tables.
    KeyError
        If the baseline or policy of a pair is missing.
    """
    run = _Run(trace, count_from, baselines, learned, tuned, lag, seed, progress, waiting)
    done = Comparison()
    for cell in cells:
        for fraction in fast_fractions:
            run.measure(cell, fraction, done)
    return done


@dataclass(frozen=True)
class _Measured:
    counts: Mapping[str, int]
    nbytes: int
    seconds: float
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class _Run:
    trace: Trace
    count_from: float
    baselines: Mapping[str, Baseline]
    learned: Mapping[str, RecmgPolicy]
    tuned: bool
    lag: int
    seed: int
    progress: Callable[[int], object]
    waiting: Callable[[str], AbstractContextManager[object]]
    _lru_fetches: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.count_from < 1:
            raise ValueError(
                f"count_from: expected above 0 and below 1, got {self.count_from}; the "
                "settings are tuned on earlier accesses"
            )
        if len(self.stream.accesses) == 0:
            raise ValueError(f"trace {self.trace.name!r}: no accesses; expected one or more")
        for policy in self.learned.values():
            policy.check(self.trace)

    @cached_property
    def stream(self) -> Stream:
        return Stream.of(self.trace)

    @cached_property
    def counted(self) -> int:
        return first_counted(len(self.stream.accesses), self.count_from)

    @cached_property
    def scene(self) -> Scene:
        return Scene(self.stream, self.counted, self.seed)

    @cached_property
    def trial(self) -> Scene:
        """The run of the tuning, with only uncounted accesses."""
        past = Stream.of(self.trace, self.count_from)
        return Scene(past, int(self.counted * (1 - TEST_SHARE)), self.seed)

    @cached_property
    def distinct(self) -> int:
        return count_distinct(self.stream.accesses, self.stream.rows)

    def measure(self, cell: Cell, fraction: float, done: Comparison) -> None:
        rows = fast_rows(fraction, self.distinct)
        if cell.caching == RECMG:
            measured = self._simulated(self.learned[cell.policy].model_for(rows), rows)
        elif cell.prefetching == NONE:
            measured = self._simulated(cell.caching, rows)
        else:
            measured = self._baseline(cell, fraction, rows, done)
        record = count_record(cell.policy, self.trace.name, fraction, rows, measured.counts)
        record |= self._ratios(record, measured.counts, rows)
        record["caching"], record["prefetching"] = cell.caching, cell.prefetching
        record["prefetch_lag"] = self.lag
        record["cpu_us_per_access"] = round(1e6 * measured.seconds / len(self.stream.accesses), 4)
        record["policy_bytes"] = measured.nbytes
        record["settings"] = measured.settings
        record["machine"] = _machine.describe()
        done.records.append(record)

    def _ratios(
        self, record: Mapping[str, Any], counts: Mapping[str, int], rows: int
    ) -> dict[str, Any]:
        useful, late = record["prefetches_useful"], record["prefetches_late"]
        fetched = record["on_demand_fetches"]
        return {
            "prefetches_useless": counts.get("prefetches_useless", 0),
            "coverage": _share(useful, useful + fetched),
            "accuracy": _share(useful, record["prefetches_issued"]),
            "lateness": _share(late, late + useful),
            "to_lru": _share(fetched, self._lru_fetches_at(rows)),
        }

    def _lru_fetches_at(self, rows: int) -> int:
        """On-demand fetches of LRU without prefetching."""
        if rows not in self._lru_fetches:
            lru = run_simulator(self.stream, "lru", rows, count_from=self.counted)
            self._lru_fetches[rows] = lru.counts["on_demand_fetches"]
        return self._lru_fetches[rows]

    def _simulated(self, policy: str | PlannedModel, rows: int) -> _Measured:
        began = time.process_time()
        simulator = run_simulator(
            self.stream,
            policy,
            rows,
            count_from=self.counted,
            prefetch_lag=self.lag,
            prefetch_cost=PREFETCH_COST,
            report=self.progress,
        )
        seconds = time.process_time() - began
        simple = eviction_policy_bytes(policy, rows) if isinstance(policy, str) else 0
        return _Measured(simulator.counts, simple + simulator.policy_bytes, seconds)

    def _baseline(self, cell: Cell, fraction: float, rows: int, done: Comparison) -> _Measured:
        baseline = self.baselines[cell.prefetching]
        tier = Tier(cell.caching, rows, self.lag)
        settings = defaults(baseline)
        if self.tuned:
            with self.waiting(f"tuning {cell.policy} at {percent(fraction)}"):
                tuned = tune(baseline, self.trial, tier)
            settings = tuned.settings
            done.tried += self._tried(cell, fraction, rows, tuned)
        with self.waiting(f"preparing {cell.policy}"):
            baseline.prepare(self.scene, settings)
        began = time.process_time()
        outcome = baseline.replay(
            self.scene, tier, settings, count_from=self.counted, report=self.progress
        )
        seconds = time.process_time() - began + outcome.predict_seconds
        nbytes = outcome.nbytes + eviction_policy_bytes(cell.caching, rows)
        return _Measured(outcome.counts, nbytes, seconds, settings)

    def _tried(
        self, cell: Cell, fraction: float, rows: int, tuned: Tuned
    ) -> Iterator[dict[str, Any]]:
        for settings, miss_ratio in tuned.tried:
            yield {
                "trace": self.trace.name,
                "caching": cell.caching,
                "prefetching": cell.prefetching,
                "fast_fraction": fraction,
                "fast_rows": rows,
                "prefetch_lag": self.lag,
                "settings": settings,
                "miss_ratio": round(miss_ratio, 6),
            }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None

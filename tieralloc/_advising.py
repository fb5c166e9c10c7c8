"""Learned decisions applied to a fast tier: what was accessed goes in, who should leave comes out.

One step of it, the same for a store that serves and for a simulated tier, and without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tieralloc._core import Guard, ShadowTier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: Accesses in order: rows, sample by sample, and rows of each sample.
    Drained = tuple[NDArray[np.uint64], NDArray[np.uint32]]

    #: Says which of some rows, (n,), are in no fast tier: (n,).
    FindAbsent = Callable[[NDArray[np.uint64]], NDArray[np.bool_]]

#: Simple policies that a learned one has to be ahead of.
RIVALS = ("s3fifo", "lru", "sieve")

#: Residents looked at for each one that is advised to leave, and where there is no time for more.
CANDIDATES = 16
FEWEST_CANDIDATES = 4

_MOST_SCORED = 1 << 16  # rows a call of the model
_MOST_AHEAD = 1 / 8  # of a tier's rows, as the core has it

#: A simple policy follows another one that misses less by a larger share than this.
_CLEARLY = 0.01

#: The share of a tier that should leave between steps at most: advice lasts for twice as much.
TURNOVER = _MOST_AHEAD / 2


@runtime_checkable
class Brain(Protocol):
    """What knows which rows deserve to stay. Called by one thread at a time.

    Rows are numbered as in the access stream of a trace: those of the first table from 0, of the
    second from where the first ends.

    A property ``nbytes``, where there is one, says how much memory it takes.
    """

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses, in order.

        Parameters
        ----------
        rows : (n,) uint64
            Sample by sample.
        lengths : (samples,) uint32
            Rows of each sample, which add up to n.
        """

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.floating]:
        """Say how much each of some rows, (n,) uint64, deserves to stay: (n,), higher is more."""


@runtime_checkable
class AheadBrain(Brain, Protocol):
    """What also knows which rows to fetch before they are asked for."""

    #: Whether it is asked for them after each `observe`; where not, it may spare itself the work.
    looks_ahead: bool

    def prefetches(self, find_absent: FindAbsent) -> NDArray[np.uint64]:
        """Choose rows to be fetched ahead.

        Parameters
        ----------
        find_absent : callable
            Says of rows, (n,), which are worth a thought, (n,) bool: those not there already.
        """


class Target(Protocol):
    """A fast tier that takes advice: a core `Store` or `ShadowTier`."""

    def view(self) -> tuple[int, list[dict[str, int]]]:
        """Return the lookups so far, and the state of each tier."""

    def sample_residents(self, tier: int, draws: int) -> NDArray[np.uint64]:
        """Draw rows of a tier that could be advised to leave."""

    def advise_evictions(self, rows: NDArray[np.uint64], most: int) -> int:
        """Have rows leave first, up to so many of those that can; return how many."""

    def withdraw_advice(self, rows: NDArray[np.uint64]) -> None:
        """Let rows stay."""

    def clear_advice(self) -> None:
        """Let all rows stay."""

    def find_absent(self, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say of each row whether it is in no tier."""

    def prefetch_rows(self, rows: NDArray[np.uint64]) -> int:
        """Have rows fetched ahead, the first first; return how many of them will be."""

    def use_policy(self, name: str) -> None:
        """Have a simple policy decide where there is no advice."""


class ModelError(RuntimeError):
    """A model gave what is no score."""


@dataclass
class Work:
    """What an `Adviser` did, in numbers that only grow."""

    observed: int = 0  #: accesses
    steps: int = 0
    decisions: int = 0  #: rows scored
    advised: int = 0  #: of these, rows advised to leave
    model_ns: int = 0  #: time that scores took
    ahead_ns: int = 0  #: time that choosing what to fetch ahead took


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Residents of a tier, each once, of which some are wanted to leave first."""

    tier: int
    wanted: int
    rows: NDArray[np.uint64]


class _Filler:
    """Draws from a target what keeps as many rows advised as leave before the next time."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._evictions: list[int] = []
        self._rates: list[float] = []  # evictions from one time to the next, smoothed
        self.turnover = 0.0  #: the largest share of a tier that left from one time to the next

    def begin_anew(self) -> None:
        """Forget what left: it was not for this to fill in."""
        self._rates = []

    def draw(self, candidates: int) -> list[_Drawn]:
        """Draw so many residents for each one wanted."""
        drawn = []
        for tier, wanted in enumerate(self._wanted()):
            if wanted > 0:
                draws = min(wanted * candidates, _MOST_SCORED)
                rows = np.unique(self.target.sample_residents(tier, draws))
                drawn.append(_Drawn(tier, wanted, rows))
        return [some for some in drawn if len(some.rows) > 0]

    def _wanted(self) -> list[int]:
        """Return how many more rows of each tier should be advised."""
        _, tiers = self.target.view()
        if len(tiers) != len(self._rates):
            self._evictions = [tier["evictions"] for tier in tiers]
            self._rates = [0.0] * len(tiers)
        wanted = []
        self.turnover = 0.0
        for i, tier in enumerate(tiers):
            new = max(0, tier["evictions"] - self._evictions[i])
            self._evictions[i] = tier["evictions"]
            self.turnover = max(self.turnover, new / tier["capacity"])
            self._rates[i] = max(new, 0.9 * self._rates[i])
            # Twice as many: what leaves is uneven, and what is advised is withdrawn.
            ahead = min(2 * self._rates[i] + 1, max(1.0, _MOST_AHEAD * tier["capacity"]))
            full = tier["resident_rows"] >= tier["capacity"]
            wanted.append(max(0, math.ceil(ahead) - tier["advised_rows"]) if full else 0)
        return wanted


class Adviser:
    """Lets a brain decide who leaves a fast tier, as long as it is ahead of simple policies.

    Parameters
    ----------
    target : Target
        The fast tier.
    brain : Brain
        Who knows.
    fallback : str
        The simple policy that the target runs where there is no advice.
    guard : Guard, optional
        Says who is ahead, and if it was made for that, whether to fetch rows ahead; without one it
        is the brain, and rows are.
    """

    def __init__(
        self, target: Target, brain: Brain, *, fallback: str, guard: Guard | None = None
    ) -> None:
        self.brain = brain
        self.guard = guard
        self.fallback = fallback
        self.in_charge: str | None = None  # None: the brain
        self.candidates = CANDIDATES
        self.work = Work()
        self.estimates: dict[str, Any] | None = None  #: the guard's figures
        self._filler = _Filler(target)
        self._shadow = None if guard is None else _Filler(guard.learned)
        ahead = None if guard is None else guard.ahead
        self._shadow_ahead = None if ahead is None else _Filler(ahead)

    @property
    def turnover(self) -> float:
        """The share of the target that left from one step to the next; 0 where nobody advises."""
        return self._filler.turnover if self.in_charge is None else 0.0

    def step(self, drain: Callable[[], Drained]) -> int:
        """Take note of what was accessed since the last step, and advise anew.

        Parameters
        ----------
        drain : callable
            Takes what was accessed: rows, (n,) uint64, and rows of each sample, (samples,) uint32.

        Returns
        -------
        int
            Accesses there were.

        Raises
        ------
        ModelError
            For scores that are none. What the brain raises goes through.
        """
        # Drawn before what was accessed is taken: a row that came in later would be scored as one
        # that the brain has never seen, and would leave though it was just used.
        drawn = self._filler.draw(self.candidates) if self.in_charge is None else []
        rows, lengths = drain()
        if len(rows) == 0:
            return 0
        self.work.steps += 1
        self.work.observed += len(rows)
        self.brain.observe(rows, lengths)
        self._filler.target.withdraw_advice(rows)
        if self.in_charge is None:
            self._advise(self._filler.target, drawn)
        # After that: what was drawn leaves while advice is awaited.
        if self.guard is not None:
            self._compare(self.guard, rows)
        if isinstance(self.brain, AheadBrain):
            self._look_ahead(self.brain)
        for shadow in (self._shadow, self._shadow_ahead if self._looks_ahead else None):
            if shadow is not None:
                shadow.target.withdraw_advice(rows)
                self._advise(shadow.target, shadow.draw(self.candidates))
        return len(rows)

    def _compare(self, guard: Guard, rows: NDArray[np.uint64]) -> None:
        """Have the guard say who is ahead."""
        guard.observe(rows)
        self.estimates = {
            "miss_ratios": guard.miss_ratios,
            "switches": guard.switches,
            "sample_rate": guard.sample_rate,
            "sampled": guard.sampled,
            "prefetching": guard.fetches_ahead,
            "looks_ahead": guard.looks_ahead,
            "prefetching_miss_ratio": guard.ahead_miss_ratio,
            "prefetching_switches": guard.ahead_switches,
        }
        if guard.choice != self.in_charge:
            self._hand_over(guard.choice)

    def avoided(self) -> float:
        """Return the fetches that the brain spares beyond the best simple policy.

        As a share of those that there are with who is in charge; of a guard's shadows.
        """
        assert self.guard is not None
        ratios: dict[str | None, float] = dict(self.guard.miss_ratios)
        if self.guard.fetches_ahead and self.guard.ahead_miss_ratio is not None:
            ratios[None] = self.guard.ahead_miss_ratio
        now = ratios[self.in_charge]
        best = min(ratio for name, ratio in ratios.items() if name is not None)
        return (best - ratios[None]) / now if now > 0 else 0.0

    def rest(self) -> None:
        """Leave it to the best simple policy, until the next step."""
        assert self.guard is not None
        ratios = self.guard.miss_ratios
        best = min((name for name in ratios if name is not None), key=lambda name: ratios[name])
        clearly = ratios[best] < (1 - _CLEARLY) * ratios[self.fallback]
        self._hand_over(best if clearly else self.fallback)
        for filler in (self._filler, self._shadow, self._shadow_ahead):
            if filler is not None:
                filler.begin_anew()

    @property
    def fetches_ahead(self) -> bool:
        """Whether what the brain would have fetched ahead is fetched."""
        return self.guard is None or self.guard.ahead is None or self.guard.fetches_ahead

    @property
    def _looks_ahead(self) -> bool:
        """Whether the brain is asked what to fetch ahead, be it to see whether that would pay."""
        return self.guard is None or self.guard.ahead is None or self.guard.looks_ahead

    def _look_ahead(self, brain: AheadBrain) -> None:
        if brain.looks_ahead:
            self._fetch_ahead(brain)
        if brain.looks_ahead == self._looks_ahead:
            return
        brain.looks_ahead = self._looks_ahead
        if self._shadow_ahead is not None:
            self._shadow_ahead.target.clear_advice()
            self._shadow_ahead.begin_anew()

    def _fetch_ahead(self, brain: AheadBrain) -> None:
        began = perf_counter_ns()
        rows = brain.prefetches(self._find_wanted)
        self.work.ahead_ns += perf_counter_ns() - began
        if self.fetches_ahead:
            self._filler.target.prefetch_rows(rows)
        if self.guard is not None and self.guard.ahead is not None:
            self.guard.ahead.prefetch_rows(rows[self.guard.find_sampled(rows)])

    def _find_wanted(self, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say which rows are absent where they would be fetched to."""
        wanted = np.zeros(len(rows), dtype=np.bool_)
        if self.fetches_ahead:
            wanted |= self._filler.target.find_absent(rows)
        if self.guard is not None and self.guard.ahead is not None:
            sampled = np.flatnonzero(self.guard.find_sampled(rows))
            wanted[sampled] |= self.guard.ahead.find_absent(rows[sampled])
        return wanted

    def _hand_over(self, choice: str | None) -> None:
        self.in_charge = choice
        self._filler.target.clear_advice()
        if choice is not None and choice != self.fallback:
            self._filler.target.use_policy(choice)
            self.fallback = choice

    def _advise(self, target: Target, drawn: Sequence[_Drawn]) -> None:
        for some in drawn:
            scores = self._scores(some.rows)
            # No more than the worst quarter leaves, of which some may have left since it was drawn.
            worst = _lowest(scores, max(1, len(some.rows) // FEWEST_CANDIDATES))
            self.work.advised += target.advise_evictions(some.rows[worst], some.wanted)

    def _scores(self, rows: NDArray[np.uint64]) -> NDArray[np.floating]:
        began = perf_counter_ns()
        scores = np.asarray(self.brain.score(rows))
        self.work.model_ns += perf_counter_ns() - began
        self.work.decisions += len(rows)
        if scores.shape != rows.shape:
            raise ModelError(f"scores have shape {scores.shape}, expected {rows.shape}")
        if scores.dtype.kind != "f":
            raise ModelError(f"scores are {scores.dtype}, expected floating-point numbers")
        if np.isnan(scores).any():
            raise ModelError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
        return scores


def _lowest(scores: NDArray[np.floating], n: int) -> NDArray[np.intp]:
    """Return the places of the n lowest scores, the lowest first."""
    places = np.argpartition(scores, n - 1)[:n] if n < len(scores) else np.arange(len(scores))
    return places[np.argsort(scores[places], kind="stable")]


def make_guard(
    capacity: int, fallback: str, *, ahead: bool = False, rivals: Sequence[str] = RIVALS
) -> Guard:
    """Make a guard of a tier, the fallback and other simple policies being its yardsticks.

    With `ahead` it also says whether to fetch rows ahead.
    """
    return Guard(capacity, list(dict.fromkeys([fallback, *rivals])), ahead=ahead)


def simulate_advised(
    accesses: NDArray[np.uint64],
    lengths: NDArray[np.uint32],
    capacity: int,
    brain: Brain,
    *,
    fallback: str = "s3fifo",
    guard: Guard | None = None,
    step: int = 256,
    candidates: int = CANDIDATES,
    count_from: int = 0,
    seed: int = 0,
    report: Callable[[int], object] = lambda done: None,
) -> dict[str, int]:
    """Replay accesses through a tier without bytes that a brain advises, as a runtime would.

    Parameters
    ----------
    accesses, lengths : (n,) uint64, (samples,) uint32
        Rows, sample by sample, and rows of each sample.
    capacity : int
        Rows of the fast tier.
    brain, fallback, guard
        As for `Adviser`.
    step : int
        Accesses from one step to the next, rounded up to whole samples: the lag of decisions.
    candidates : int
        Residents looked at for each one that is advised to leave.
    count_from : int
        The first access whose step counts.
    seed : int
        Of the residents drawn.
    report : callable
        Called with the number of accesses just replayed.

    Returns
    -------
    dict
        lookups, hits, on_demand_fetches, evictions, advised_evictions, prefetches_issued,
        prefetches_useful, prefetches_useless.
    """
    tier = ShadowTier(fallback, capacity, seed=seed)
    adviser = Adviser(tier, brain, fallback=fallback, guard=guard)
    adviser.candidates = candidates
    lookups = misses = 0
    before = _tallies(tier)
    for samples, served in _steps(lengths, step):
        rows = accesses[served]
        if served.start < count_from:
            before = _tallies(tier)
        missed = tier.run(rows)
        if served.start >= count_from:
            lookups += len(rows)
            misses += missed
        adviser.step(partial(_as_drained, rows, lengths[samples]))
        report(len(rows))
    after = _tallies(tier)
    return {
        "lookups": lookups,
        "hits": lookups - misses,
        "on_demand_fetches": misses,
        **{name: after[name] - before[name] for name in after},
    }


def _tallies(tier: ShadowTier) -> dict[str, int]:
    state = tier.view()[1][0]
    evictions = {name: state[name] for name in ("evictions", "advised_evictions")}
    return {**evictions, **tier.prefetches}


def _steps(lengths: NDArray[np.uint32], step: int) -> Iterator[tuple[slice, slice]]:
    """Return the samples, and the accesses, of each step."""
    ends = np.cumsum(lengths, dtype=np.int64)
    first, begin = 0, 0
    while first < len(ends):
        last = min(int(np.searchsorted(ends, begin + step)) + 1, len(ends))
        end = int(ends[last - 1])
        yield slice(first, last), slice(begin, end)
        first, begin = last, end


def _as_drained(rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> Drained:
    return rows, lengths

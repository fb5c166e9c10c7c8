"""Learned decisions applied to a fast tier: what was accessed goes in, who should leave comes out.

One step of it, the same for a store that serves and for a simulated tier, and without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tieralloc._core import Guard, ShadowTier

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Simple policies that a learned one has to be ahead of.
RIVALS = ("s3fifo", "lru", "sieve")

#: Residents looked at for each one that is advised to leave, and where there is no time for more.
CANDIDATES = 32
FEWEST_CANDIDATES = 4

_MOST_SCORED = 1 << 16  # rows a call of the model
_MOST_AHEAD = 1 / 8  # of a tier's rows, as the core has it


@runtime_checkable
class Brain(Protocol):
    """What knows which rows deserve to stay. Called by one thread at a time.

    Rows are numbered as in the access stream of a trace: those of the first table from 0, of the
    second from where the first ends.

    A method ``prefetches() -> (n,) uint64``, where there is one, is asked after each `observe` for
    rows to be fetched ahead.
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

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Say how much each of some rows, (n,) uint64, deserves to stay: (n,), higher is more."""


class Target(Protocol):
    """A fast tier that takes advice: a core `Store` or `ShadowTier`."""

    def view(self) -> tuple[int, list[dict[str, int]]]:
        """Return the lookups so far, and the state of each tier."""

    def sample_residents(self, tier: int, draws: int) -> NDArray[np.uint64]:
        """Draw rows of a tier that could be advised to leave."""

    def advise_evictions(self, rows: NDArray[np.uint64]) -> int:
        """Have rows leave first."""

    def withdraw_advice(self, rows: NDArray[np.uint64]) -> None:
        """Let rows stay."""

    def clear_advice(self) -> None:
        """Let all rows stay."""

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


class _Filler:
    """Keeps as many rows of a target advised as will leave before the next time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._evictions: list[int] = []
        self._rates: list[float] = []  # evictions from one time to the next, smoothed

    def wanted(self) -> list[int]:
        """Return how many more rows of each tier should be advised."""
        _, tiers = self._target.view()
        if len(tiers) != len(self._rates):
            self._evictions = [tier["evictions"] for tier in tiers]
            self._rates = [0.0] * len(tiers)
        wanted = []
        for i, tier in enumerate(tiers):
            new = max(0, tier["evictions"] - self._evictions[i])
            self._evictions[i] = tier["evictions"]
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
        Says who is ahead; without one it is the brain.
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
        self._target = target
        self._fillers = [(target, _Filler(target))]
        if guard is not None:
            self._fillers.append((guard.learned, _Filler(guard.learned)))

    def step(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of what was accessed since the last step, and advise anew.

        Raises
        ------
        ModelError
            For scores that are none. What the brain raises goes through.
        """
        self.work.steps += 1
        self.work.observed += len(rows)
        self.brain.observe(rows, lengths)
        if self.guard is not None:
            self.guard.observe(rows)
            self.estimates = {
                "miss_ratios": self.guard.miss_ratios,
                "switches": self.guard.switches,
                "sample_rate": self.guard.sample_rate,
                "sampled": self.guard.sampled,
            }
            if self.guard.choice != self.in_charge:
                self._hand_over(self.guard.choice)
        for target, filler in self._fillers:
            target.withdraw_advice(rows)
            if target is not self._target or self.in_charge is None:
                self._fill(target, filler)

    def _hand_over(self, choice: str | None) -> None:
        self.in_charge = choice
        self._target.clear_advice()
        if choice is not None and choice != self.fallback:
            self._target.use_policy(choice)
            self.fallback = choice

    def _fill(self, target: Target, filler: _Filler) -> None:
        for tier, wanted in enumerate(filler.wanted()):
            if wanted == 0:
                continue
            draws = min(wanted * self.candidates, _MOST_SCORED)
            rows = np.unique(target.sample_residents(tier, draws))
            if len(rows) == 0:
                continue
            scores = self._scores(rows)
            # Of a sample that was cut short no more than its worst quarter leaves.
            worst = _lowest(scores, min(wanted, max(1, len(rows) // FEWEST_CANDIDATES)))
            self.work.advised += target.advise_evictions(rows[worst])

    def _scores(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
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


def _lowest(scores: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Return the places of the n lowest scores, the lowest first."""
    places = np.argpartition(scores, n - 1)[:n] if n < len(scores) else np.arange(len(scores))
    return places[np.argsort(scores[places], kind="stable")]


def make_guard(capacity: int, fallback: str, *, rivals: Sequence[str] = RIVALS) -> Guard:
    """Make a guard of a tier, the fallback and other simple policies being its yardsticks."""
    return Guard(capacity, list(dict.fromkeys([fallback, *rivals])))


def simulate_advised(
    accesses: NDArray[np.uint64],
    lengths: NDArray[np.uint32],
    capacity: int,
    brain: Brain,
    *,
    fallback: str = "s3fifo",
    guard: Guard | None = None,
    step: int = 256,
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
    count_from : int
        The first access whose step counts.
    seed : int
        Of the residents drawn.
    report : callable
        Called with the number of accesses just replayed.

    Returns
    -------
    dict
        lookups, hits, on_demand_fetches, evictions, advised_evictions.
    """
    tier = ShadowTier(fallback, capacity, seed=seed)
    adviser = Adviser(tier, brain, fallback=fallback, guard=guard)
    lookups = misses = 0
    before = tier.view()[1][0]
    for first, last, begin, end in _steps(lengths, step):
        if begin < count_from:
            before = tier.view()[1][0]
        missed = tier.run(accesses[begin:end])
        if begin >= count_from:
            lookups += end - begin
            misses += missed
        adviser.step(accesses[begin:end], lengths[first:last])
        report(end - begin)
    after = tier.view()[1][0]
    return {
        "lookups": lookups,
        "hits": lookups - misses,
        "on_demand_fetches": misses,
        "evictions": after["evictions"] - before["evictions"],
        "advised_evictions": after["advised_evictions"] - before["advised_evictions"],
    }


def _steps(lengths: NDArray[np.uint32], step: int) -> list[tuple[int, int, int, int]]:
    """Return first and last sample, and first and last access, of each step."""
    ends = np.cumsum(lengths, dtype=np.int64)
    steps = []
    first, begin = 0, 0
    while first < len(ends):
        last = min(int(np.searchsorted(ends, begin + step)) + 1, len(ends))
        steps.append((first, last, begin, int(ends[last - 1])))
        first, begin = last, int(ends[last - 1])
    return steps

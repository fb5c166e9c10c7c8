"""Training of `recmg` on a trace: from accesses to a policy directory.

The last fifth of what is learned from first tells how many rounds are worth their time, by the
misses that the models would have there; then they learn from all of it for as many.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._core import Simulator, belady
from tieralloc._files import check_writable
from tieralloc._progress import Narration, unheard
from tieralloc._scripted import compile_module
from tieralloc._torch import torch
from tieralloc.policies.recmg.contexts import find_contexts
from tieralloc.policies.recmg.horizons import AHEAD_HORIZONS, eviction_ages, horizons_for
from tieralloc.policies.recmg.learner import HorizonLearner
from tieralloc.policies.recmg.memory import Memory
from tieralloc.policies.recmg.model import HorizonModel
from tieralloc.policies.recmg.policy import FEATURES, POLICY, Models
from tieralloc.policies.recmg.samples import Samples, Stream
from tieralloc.policies.training import Settings, round_size, train
from tieralloc.policy_directory import (
    Capacity,
    Manifest,
    TrainingTrace,
    fingerprint,
    write_policy,
)
from tieralloc.simulate import count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

SETTINGS = Settings(rounds=10, patience=4, batch_size=1024, learning_rate=3e-3, one_cycle=True)

_VALIDATED = 0.2
_PREFETCH_ROUNDS = 3  # at most: each takes long to measure, and more were never better
_LEAST_ACCESSES = 200
_LEAST_CANDIDATES = 1000
_LEAST_STEPS = 100  # of a round
_CHECKPOINTS = ".checkpoints"

#: Measures a module; less is better.
Measure = Callable[[torch.nn.Module], float]


def train_policy(
    trace: Trace,
    directory: str | os.PathLike[str],
    fast_fractions: list[float],
    *,
    until: float = 0.5,
    seed: int = 0,
    rounds: int = SETTINGS.rounds,
    progress: Narration = unheard,
) -> Manifest:
    """Train both models and write a policy directory.

    Interrupted, it goes on from the last round when it is called with the same arguments again.

    Parameters
    ----------
    trace : Trace
        What to learn from.
    directory : str or path
        Where to write.
    fast_fractions : list of float
        Capacities that tell when to stop, as fractions of the distinct rows of the whole trace,
        rounded down. The policy serves any other as well.
    until : float
        The share of the accesses that is learned from, in (0, 1].
    seed : int
        Of everything that is drawn.
    rounds : int
        Most rounds of training.
    progress : callable
        Opens a bar for each part of the training.

    Returns
    -------
    Manifest
        Of the directory. Its metrics are, for each capacity, miss ratios of the validation slice:
        lru, opt, caching and prefetching (without the prefetch model and with it, both models as
        they were before they learned from that slice too). A trace in which next to nothing is
        looked up in one sample with others gives no prefetch model.

    Raises
    ------
    ValueError
        For a fraction out of range, or too few accesses to learn from.
    OSError
        Where something cannot be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    check_writable(directory / "manifest.json")  # now rather than after minutes
    task = _Task.of(trace, until, seed)
    distinct = count_distinct(trace.accesses(), task.stream.rows)
    capacities = [Capacity(fraction, fast_rows(fraction, distinct)) for fraction in fast_fractions]
    settings = replace(SETTINGS, rounds=rounds, seed=seed)
    course = _Course(task, settings, directory / _CHECKPOINTS, progress)
    metrics, best = course.validate(capacities)
    modules = course.fit(best)
    manifest = Manifest(
        policy=POLICY,
        features=FEATURES,
        tables=list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)),
        trace=TrainingTrace(trace.name, task.fingerprint, task.num_accesses),
        capacities=capacities,
        seed=seed,
        settings={
            "horizons": task.horizons,
            "ahead_horizons": list(AHEAD_HORIZONS),
            "eviction_ages": task.ages_until(task.num_accesses),
            "contexts": task.stream.contexts,
            "rounds": best,
        },
        metrics={"validation": metrics},
    )
    compiled = {name: compile_module(module) for name, module in modules.items()}
    write_policy(directory, manifest, compiled, {})
    shutil.rmtree(directory / _CHECKPOINTS, ignore_errors=True)
    return manifest


def teach_caching(
    trace: Trace, *, until: float, seed: int = 0, settings: Settings = SETTINGS
) -> Models:
    """Train the caching model alone, for as many rounds as are set, and write nothing.

    Parameters
    ----------
    trace, until, seed
        As for `train_policy`.
    settings : Settings
        How.

    Returns
    -------
    Models
        Without a prefetch model.

    Raises
    ------
    ValueError
        As `train_policy`.
    """
    task = _Task.of(trace, until, seed)
    learner = task.caching_learner(task.num_accesses)
    train(learner, replace(settings, seed=seed))
    learner.module.eval()
    return Models(learner.module, None, task.horizons, task.ages_until(task.num_accesses))


@dataclass(frozen=True, eq=False)
class _Task:
    """What is learned from, and what tells how far to go."""

    stream: Stream
    fitted: int  # accesses before those that validate
    fingerprint: str  # of the whole trace
    seed: int
    horizons: list[int]
    residents: Samples
    candidates: Samples

    @classmethod
    def of(cls, trace: Trace, until: float, seed: int) -> _Task:
        if not 0 < until <= 1:
            raise ValueError(f"until is {until}, expected above 0 and at most 1")
        whole = trace.accesses()
        accesses = whole if until == 1 else whole[: first_counted(len(whole), until)]
        if len(accesses) < _LEAST_ACCESSES:
            raise ValueError(
                f"trace {trace.name!r} has {len(accesses)} accesses to learn from, expected at"
                f" least {_LEAST_ACCESSES}"
            )
        lengths = _first_lengths(trace.lengths.sum(axis=0, dtype=np.int64), len(accesses))
        starts = np.append(trace.first_rows, trace.num_embeddings.sum()).astype(np.uint64)
        contexts = find_contexts(accesses, lengths, starts, seed)
        stream = Stream(accesses, lengths, starts, contexts)
        fitted = int(len(accesses) * (1 - _VALIDATED))
        return cls(
            stream,
            fitted,
            fingerprint(whole),
            seed,
            horizons_for(fitted),
            stream.draw_residents(seed),
            stream.draw_candidates(seed),
        )

    @property
    def num_accesses(self) -> int:
        return len(self.stream.accesses)

    @property
    def has_candidates(self) -> bool:
        """Whether there is enough to learn from of what comes beside what."""
        return len(self.candidates.until(self.fitted).features) >= _LEAST_CANDIDATES

    def ages_until(self, end: int) -> list[tuple[int, float]]:
        """After how many accesses LRU evicts in the later half of what precedes an access."""
        accesses = self.stream.accesses[:end]
        return eviction_ages(accesses, self.stream.rows, count_from=end // 2)

    def caching_learner(self, end: int, measure: Measure | None = None) -> HorizonLearner:
        return self._learner(self.residents, self.horizons, end, measure)

    def prefetch_learner(self, end: int, measure: Measure | None = None) -> HorizonLearner:
        return self._learner(self.candidates, AHEAD_HORIZONS, end, measure)

    def _learner(
        self, samples: Samples, horizons: Sequence[int], end: int, measure: Measure | None
    ) -> HorizonLearner:
        tables = len(self.stream.table_starts) - 1
        return HorizonLearner(
            samples, horizons, num_tables=tables, end=end, seed=self.seed, measure=measure
        )

    def count(self, models: Models, rows: int) -> float:
        """Simulate models at a capacity; return the miss ratio of what validates."""
        stream = self.stream
        memory = Memory.within(
            None,
            rows,
            rows=stream.rows,
            has_contexts=bool(stream.contexts),
            fetches_ahead=models.prefetch is not None,
        )
        simulator = models.simulator(
            stream.history(memory.rows),
            rows,
            logged=memory.accesses,
            count_from=self.fitted,
            guide_from=self.fitted - (self.num_accesses - self.fitted) // 2,
        )
        simulator.run(stream.accesses, stream.lengths)
        return _miss_ratio(simulator.counts)

    def yardsticks(self, rows: int) -> dict[str, float]:
        accesses, total = self.stream.accesses, self.stream.rows
        lru = Simulator("lru", rows, total, count_from=self.fitted)
        lru.run(accesses)
        opt = belady(accesses, total, rows, count_from=self.fitted)
        return {"lru": _miss_ratio(lru.counts), "opt": _miss_ratio(opt)}


@dataclass(frozen=True, eq=False)
class _Course:
    """Training, once to see how far to go, and once to go there."""

    task: _Task
    settings: Settings
    checkpoints: Path
    progress: Narration

    def validate(
        self, capacities: Sequence[Capacity]
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Train on what does not validate; return what is measured, and how many rounds to do."""
        task = self.task
        ages = task.ages_until(task.fitted)
        sizes = sorted({capacity.fast_rows for capacity in capacities})
        yardsticks = {rows: task.yardsticks(rows) for rows in sizes}

        def ratio_to_lru(models: Models) -> float:
            ratios = [task.count(models, rows) / yardsticks[rows]["lru"] for rows in sizes]
            return float(np.mean(ratios))

        def alone(module: torch.nn.Module) -> Models:
            return Models(module, None, task.horizons, ages)

        caching = task.caching_learner(task.fitted, lambda it: ratio_to_lru(alone(it)))
        best = {"caching": self._rounds("caching", caching, self.settings.rounds)}
        models = alone(caching.module)
        metrics = {
            rows: {**yardsticks[rows], "caching": task.count(models, rows)} for rows in sizes
        }
        if task.has_candidates:
            prefetch = task.prefetch_learner(
                task.fitted, lambda it: ratio_to_lru(replace(models, prefetch=it))
            )
            most = min(self.settings.rounds, _PREFETCH_ROUNDS)
            best["prefetch"] = self._rounds("prefetch", prefetch, most)
            models = replace(models, prefetch=prefetch.module)
            for rows in sizes:
                metrics[rows]["prefetching"] = task.count(models, rows)
        found = [
            {
                "fast_fraction": capacity.fast_fraction,
                "fast_rows": capacity.fast_rows,
                **metrics[capacity.fast_rows],
            }
            for capacity in capacities
        ]
        return found, best

    def _rounds(self, name: str, learner: HorizonLearner, most: int) -> int:
        """Train a model, and return how many rounds were worth their time."""
        settings = replace(self.settings, rounds=most)
        rounds = self._train(f"how far to go, {name}", learner, settings)
        learner.module.eval()
        return 1 + int(np.argmin([entry.measure for entry in rounds]))

    def fit(self, rounds: Mapping[str, int]) -> dict[str, HorizonModel]:
        """Train on everything, each model for as many rounds as are given for it."""
        end = self.task.num_accesses
        makers = {"caching": self.task.caching_learner, "prefetch": self.task.prefetch_learner}
        modules = {}
        for name, count in rounds.items():
            learner = makers[name](end)
            self._train(name, learner, replace(self.settings, rounds=count, measured=False))
            modules[name] = learner.module
        return modules

    def _train(self, what: str, learner: HorizonLearner, settings: Settings) -> list[Any]:
        # A round is of some steps at least, on a small trace too.
        most = max(1, learner.num_examples // _LEAST_STEPS)
        settings = replace(settings, batch_size=min(settings.batch_size, most))
        total = settings.rounds * round_size(learner, settings)
        task = self.task
        with self.progress(f"training: {what}", total, "samples") as report:
            return train(
                learner,
                settings,
                checkpoint=self.checkpoints / f"{what.replace(' ', '-').replace(',', '')}.pt",
                task=f"{POLICY}, {what}, {task.num_accesses} of {task.fingerprint}",
                report=report,
            )


def _first_lengths(lengths: NDArray[np.int64], accesses: int) -> NDArray[np.uint32]:
    """Return the lengths of the samples that the first accesses are of, the last one cut short."""
    ends = np.minimum(np.cumsum(lengths), accesses)
    found = np.diff(ends, prepend=0)
    samples = int(np.searchsorted(ends, accesses)) + 1
    return found[:samples].astype(np.uint32)


def _miss_ratio(counts: dict[str, int]) -> float:
    return counts["on_demand_fetches"] / counts["lookups"]

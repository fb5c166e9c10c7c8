"""Training of `recmg` on a trace: from accesses to a policy directory.

The last fifth of what is learned from first tells how many rounds are worth their time, by the
misses that the model would have there; then a model learns from all of it for as many.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._core import RowHistory, ScoredSimulator, Simulator, belady
from tieralloc._files import check_writable
from tieralloc._progress import Narration, unheard
from tieralloc._scripted import compile_module
from tieralloc._torch import torch
from tieralloc.policies.recmg.contexts import find_contexts
from tieralloc.policies.recmg.horizons import (
    eviction_age,
    eviction_ages,
    horizon_weights,
    horizons_for,
)
from tieralloc.policies.recmg.model import HorizonModel
from tieralloc.policies.recmg.policy import (
    CANDIDATES,
    FEATURES,
    POLICY,
    REMEMBERED,
    VICTIMS,
    scorer,
)
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
_UNSAMPLED = 0.1  # at the beginning, when all rows are new
_MOST_SAMPLES = 1 << 20
_LEAST_ACCESSES = 200
_CHECKPOINTS = ".checkpoints"


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
    """Train the model and write a policy directory.

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
        lru, opt, caching (the model as it was before it learned from that slice too).

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
    distinct = count_distinct(trace.accesses(), task.rows)
    capacities = [Capacity(fraction, fast_rows(fraction, distinct)) for fraction in fast_fractions]
    settings = replace(SETTINGS, rounds=rounds, seed=seed)
    course = _Course(task, settings, directory / _CHECKPOINTS, progress)
    metrics, best = course.validate(capacities)
    module = course.fit(best)
    manifest = Manifest(
        policy=POLICY,
        features=FEATURES,
        tables=list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)),
        trace=TrainingTrace(trace.name, task.fingerprint, len(task.accesses)),
        capacities=capacities,
        seed=seed,
        settings={
            "horizons": task.horizons,
            "eviction_ages": task.ages_until(len(task.accesses)),
            "contexts": task.contexts,
            "rounds": best,
        },
        metrics={"validation": metrics},
    )
    write_policy(directory, manifest, {"caching": compile_module(module)}, {})
    shutil.rmtree(directory / _CHECKPOINTS, ignore_errors=True)
    return manifest


@dataclass(frozen=True, eq=False)
class _Task:
    """What is learned from."""

    accesses: NDArray[np.uint64]
    sample_lengths: NDArray[np.uint32]
    table_starts: NDArray[np.uint64]
    fitted: int  # accesses before those that validate
    fingerprint: str  # of the whole trace
    contexts: list[int]
    horizons: list[int]
    features: torch.Tensor  # (samples, F)
    times: NDArray[np.uint32]
    distances: NDArray[np.uint32]

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
        history = RowHistory(starts, count_distinct(accesses, int(starts[-1])), contexts)
        features, times, distances = history.draw_samples(
            accesses,
            lengths,
            first=int(len(accesses) * _UNSAMPLED),
            count=min(len(accesses), _MOST_SAMPLES),
            seed=seed,
        )
        return cls(
            accesses,
            lengths,
            starts,
            int(len(accesses) * (1 - _VALIDATED)),
            fingerprint(whole),
            contexts,
            horizons_for(int(len(accesses) * (1 - _VALIDATED))),
            torch.from_numpy(features),
            times,
            distances,
        )

    @property
    def rows(self) -> int:
        return int(self.table_starts[-1])

    def ages_until(self, end: int) -> list[tuple[int, float]]:
        """After how many accesses LRU evicts in the later half of what precedes an access."""
        return eviction_ages(self.accesses[:end], self.rows, count_from=end // 2)

    def model(self, end: int, seed: int) -> HorizonModel:
        """Make an untrained model, standardised by the samples before an access."""
        known = self.features[: int(np.searchsorted(self.times, end, side="right"))]
        deviation, mean = torch.std_mean(known, dim=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return HorizonModel(len(self.table_starts) - 1, mean, deviation, len(self.horizons))

    def count(self, module: torch.nn.Module, rows: int, age: float) -> float:
        """Simulate the model at a capacity; return the miss ratio of what validates."""
        history = RowHistory(self.table_starts, min(REMEMBERED * rows, self.rows), self.contexts)
        simulator = ScoredSimulator(
            history,
            rows,
            scorer(module, horizon_weights(self.horizons, age)),
            candidates=CANDIDATES,
            victims=VICTIMS,
            count_from=self.fitted,
            guide_from=self.fitted - (len(self.accesses) - self.fitted) // 2,
        )
        simulator.run(self.accesses, self.sample_lengths)
        return _miss_ratio(simulator.counts)

    def yardsticks(self, rows: int) -> dict[str, float]:
        lru = Simulator("lru", rows, self.rows, count_from=self.fitted)
        lru.run(self.accesses)
        opt = belady(self.accesses, self.rows, rows, count_from=self.fitted)
        return {"lru": _miss_ratio(lru.counts), "opt": _miss_ratio(opt)}


@dataclass(frozen=True, eq=False)
class _Course:
    """Training, once to see how far to go, and once to go there."""

    task: _Task
    settings: Settings
    checkpoints: Path
    progress: Narration

    def validate(self, capacities: Sequence[Capacity]) -> tuple[list[dict[str, Any]], int]:
        """Train on what does not validate; return what is measured, and how many rounds to do."""
        task = self.task
        ages = task.ages_until(task.fitted)
        sizes = sorted({capacity.fast_rows for capacity in capacities})
        yardsticks = {rows: task.yardsticks(rows) for rows in sizes}

        def miss_ratio(module: torch.nn.Module, rows: int) -> float:
            return task.count(module, rows, eviction_age(ages, rows))

        def measure(module: torch.nn.Module) -> float:
            ratios = [miss_ratio(module, rows) / yardsticks[rows]["lru"] for rows in sizes]
            return float(np.mean(ratios))

        learner = _Learner(task, task.fitted, self.settings.seed, measure)
        rounds = self._train("how far to go", learner, self.settings)
        best = 1 + int(np.argmin([entry.measure for entry in rounds]))
        learner.module.eval()
        metrics = {
            rows: {**yardsticks[rows], "caching": miss_ratio(learner.module, rows)}
            for rows in sizes
        }
        found = [
            {
                "fast_fraction": capacity.fast_fraction,
                "fast_rows": capacity.fast_rows,
                **metrics[capacity.fast_rows],
            }
            for capacity in capacities
        ]
        return found, best

    def fit(self, rounds: int) -> HorizonModel:
        """Train on everything."""
        learner = _Learner(self.task, len(self.task.accesses), self.settings.seed)
        self._train("caching", learner, replace(self.settings, rounds=rounds, measured=False))
        return learner.module

    def _train(self, what: str, learner: _Learner, settings: Settings) -> list[Any]:
        total = settings.rounds * round_size(learner, settings)
        with self.progress(f"training: {what}", total, "samples") as report:
            return train(
                learner,
                settings,
                checkpoint=self.checkpoints / f"{what.replace(' ', '-')}.pt",
                task=f"{POLICY}, {what}, {len(self.task.accesses)} of {self.task.fingerprint}",
                report=report,
            )


class _Learner:
    """Learns which rows are used again within each horizon, from what precedes an access."""

    def __init__(
        self,
        task: _Task,
        end: int,
        seed: int,
        measure: Callable[[torch.nn.Module], float] | None = None,
    ) -> None:
        self.module = task.model(end, seed)
        self.num_examples = int(np.searchsorted(task.times, end))
        self._task = task
        self._measure = measure
        horizons = torch.tensor(task.horizons)
        times = torch.from_numpy(task.times[: self.num_examples].astype(np.int64))
        distances = torch.from_numpy(task.distances[: self.num_examples].astype(np.int64))
        self._used = distances[:, None] <= horizons
        self._known = times[:, None] + horizons <= end

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        logits = self.module.logits(self._task.features[examples])
        known = self._known[examples].float()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, self._used[examples].float(), weight=known, reduction="sum"
        )
        return losses / known.sum().clamp(min=1)

    def measure(self) -> float:
        return 0.0 if self._measure is None else self._measure(self.module)


def _first_lengths(lengths: NDArray[np.int64], accesses: int) -> NDArray[np.uint32]:
    """Return the lengths of the samples that the first accesses are of, the last one cut short."""
    ends = np.minimum(np.cumsum(lengths), accesses)
    found = np.diff(ends, prepend=0)
    samples = int(np.searchsorted(ends, accesses)) + 1
    return found[:samples].astype(np.uint32)


def _miss_ratio(counts: dict[str, int]) -> float:
    return counts["on_demand_fetches"] / counts["lookups"]

"""Trains `recmg` on a trace and writes its policy directory.

Two runs, each from new weights: on the first 80 % of the accesses for 30 % of the epochs, whose
miss ratios on the other 20 % are the metrics of the manifest; then on all accesses for all epochs,
whose models are written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.directory import PolicyOutput, miss_ratio, reference_miss_ratios
from tieralloc.policies.recmg.contexts import find_contexts
from tieralloc.policies.recmg.horizons import (
    PREFETCH_INTERVALS,
    eviction_ages,
    horizons_for,
    intervals_for,
)
from tieralloc.policies.recmg.model import HazardModel
from tieralloc.policies.recmg.networks import native_network
from tieralloc.policies.recmg.policy import FEATURES, POLICY, Scales
from tieralloc.policies.recmg.samples import draw_candidates, draw_samples
from tieralloc.policies.recmg.task import HazardTask
from tieralloc.policies.training import Settings, train

from tieralloc._bindings import LearnedModel, Network
from tieralloc._common.progress import Progress, silent
from tieralloc.policy.directory import Capacity, Manifest, fingerprint
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.scripted import compile_module
from tieralloc.policy.simulator import run_simulator
from tieralloc.trace.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

SETTINGS = Settings(
    epochs=10,
    batch_size=1024,
    learning_rate=3e-3,
    max_gradient_norm=None,
    one_cycle=True,
    measured=False,
)

_VALIDATION_SHARE = 0.2  # of the accesses
_VALIDATION_EPOCHS = 0.3  # share of the epochs
_PREFETCH_EPOCHS = 0.5  # share of the epochs
_MIN_ACCESSES = 200
_MIN_CANDIDATES = 1000
_MIN_STEPS_PER_EPOCH = 100
_NUM_EXAMPLES = 256


def train_policy(
    trace: Trace,
    directory: str | os.PathLike[str],
    fast_fractions: list[float],
    *,
    until: float = 0.5,
    seed: int = 0,
    epochs: int = SETTINGS.epochs,
    progress: Progress = silent,
) -> Manifest:
    """Train the policy and write its directory.

    Called again with the same arguments, an interrupted training resumes after its last epoch.

    Parameters
    ----------
    trace : Trace
        Training trace.
    directory : str or path
        Directory to write; created if it does not exist.
    fast_fractions : list of float
        Capacities to validate at, as fractions of the distinct rows of the whole trace, rounded
        down. The policy supports any capacity.
    until : float
        Share of the accesses to train on, in (0, 1].
    seed : int
        Random seed.
    epochs : int
        Number of epochs.
    progress : callable
        Opens a progress bar for each training run.

    Returns
    -------
    Manifest
        Manifest of the directory. Its metrics are, for each capacity, miss ratios of the last 20 %
        of the training accesses: lru, opt, caching (caching model alone), prefetching (both
        models). There is no prefetch model if the samples give fewer than 1000 candidates.

    Raises
    ------
    ValueError
        If a fraction is out of range, or there are too few training accesses.
    OSError
        If a file cannot be written.
    """
    output = PolicyOutput(trace, directory, fast_fractions)
    trainer = _Trainer(
        trace,
        until,
        replace(SETTINGS, epochs=epochs, seed=seed),
        checkpoints=output.checkpoints,
        progress=progress,
    )
    validation = trainer.validate(output.capacities)
    trained = trainer.train_until(trainer.num_accesses, "all accesses")
    return output.write(
        POLICY,
        FEATURES,
        num_accesses=trainer.num_accesses,
        seed=seed,
        settings={**asdict(trained.scales), "epochs": epochs},
        validation=validation,
        models={name: compile_module(module) for name, module in trained.modules.items()},
        arrays=trainer.examples(),
    )


def train_caching(
    trace: Trace, *, until: float, seed: int = 0, settings: Settings = SETTINGS
) -> LearnedModel:
    """Train and return a model without a prefetch network; write nothing.

    Parameters and errors as for `train_policy`, with `settings` of the training loop.
    """
    trainer = _Trainer(trace, until, replace(settings, seed=seed), prefetches=False)
    return trainer.train_until(trainer.num_accesses, "all accesses").model()


@dataclass(frozen=True, eq=False)
class _Trained:
    """Trained modules by name, and their scales."""

    modules: Mapping[str, HazardModel]
    scales: Scales

    def model(self, *, prefetches: bool = True) -> LearnedModel:
        caching, prefetch = self._network("caching"), None
        if prefetches and "prefetch" in self.modules:
            prefetch = self._network("prefetch")
        return self.scales.model(caching, prefetch)

    def _network(self, name: str) -> Network:
        network = native_network(self.modules[name].state_dict())
        assert network is not None  # a HazardModel has the parameters of the native network
        return network


class _Trainer:
    """Trains the models on a first part of the accesses of a trace, of any length."""

    def __init__(
        self,
        trace: Trace,
        until: float,
        settings: Settings,
        *,
        checkpoints: Path | None = None,
        progress: Progress = silent,
        prefetches: bool = True,
    ) -> None:
        self.stream = Stream.of(trace, until)
        if self.num_accesses < _MIN_ACCESSES:
            raise ValueError(
                f"trace {trace.name!r}: expected at least {_MIN_ACCESSES} training accesses, got"
                f" {self.num_accesses}"
            )
        self.fingerprint = fingerprint(trace.accesses())
        stream = self.stream
        self._contexts = find_contexts(
            stream.accesses, stream.lengths, stream.table_starts, settings.seed
        )
        self._samples = {"caching": draw_samples(stream, self._contexts, settings.seed)}
        candidates = draw_candidates(stream, self._contexts, settings.seed)
        if prefetches and len(candidates.features) >= _MIN_CANDIDATES:
            self._samples["prefetch"] = candidates
        self._settings = settings
        self._checkpoints = checkpoints
        self._progress = progress

    @property
    def num_accesses(self) -> int:
        return len(self.stream.accesses)

    def examples(self) -> dict[str, NDArray[np.float32]]:
        """Return some training features of each model, by its name."""
        examples = {}
        for name, samples in self._samples.items():
            chosen = np.linspace(0, len(samples.features) - 1, _NUM_EXAMPLES).astype(np.int64)
            examples[name] = samples.features.numpy()[chosen]
        return examples

    def validate(self, capacities: Sequence[Capacity]) -> list[dict[str, Any]]:
        """Train on the first 80 % of the accesses; return miss ratios of the rest."""
        end = int(self.num_accesses * (1 - _VALIDATION_SHARE))
        trained = self.train_until(end, "validation", share=_VALIDATION_EPOCHS)
        metrics = []
        with self._progress("validating", len(capacities), "capacities") as report:
            for capacity in capacities:
                ratios = self._miss_ratios(trained, capacity.fast_rows, end)
                metrics.append(asdict(capacity) | ratios)
                shown = ", ".join(f"{name} {ratio:.4f}" for name, ratio in ratios.items())
                report(1, f"miss ratios at {capacity.fast_fraction:.4g}: {shown}")
        return metrics

    def _miss_ratios(self, trained: _Trained, rows: int, end: int) -> dict[str, float]:
        """Return the miss ratios of the accesses from `end` on, with a fast tier of `rows`."""
        stream = self.stream
        ratios = reference_miss_ratios(stream, rows, count_from=end)
        caching = run_simulator(stream, trained.model(prefetches=False), rows, count_from=end)
        ratios["caching"] = miss_ratio(caching.counts)
        if "prefetch" in trained.modules:
            both = run_simulator(
                stream, trained.model(), rows, count_from=end, prefetch_cost=PREFETCH_COST
            )
            ratios["prefetching"] = miss_ratio(both.counts)
        return ratios

    def train_until(self, end: int, run: str, *, share: float = 1.0) -> _Trained:
        """Train on the first `end` accesses, for a share of the epochs; `run` names the run."""
        stream = self.stream
        ages = eviction_ages(stream.accesses[:end], stream.rows, count_from=end // 2)
        scales = Scales(intervals_for(end), horizons_for(end), ages, self._contexts)
        modules = {
            "caching": self._train("caching", scales.intervals, end, f"caching, {run}", share)
        }
        if "prefetch" in self._samples:
            modules["prefetch"] = self._train(
                "prefetch", PREFETCH_INTERVALS, end, f"prefetch, {run}", share * _PREFETCH_EPOCHS
            )
        return _Trained(modules, scales)

    def _train(
        self, name: str, intervals: Sequence[int], end: int, run: str, share: float
    ) -> HazardModel:
        """Train one model on the first `end` accesses."""
        task = HazardTask(
            self._samples[name],
            intervals,
            num_tables=self.stream.num_tables,
            end=end,
            seed=self._settings.seed,
        )
        max_batch = max(1, task.num_examples // _MIN_STEPS_PER_EPOCH)
        settings = replace(
            self._settings,
            epochs=max(1, int(share * self._settings.epochs)),
            batch_size=min(self._settings.batch_size, max_batch),
        )
        file = run.replace(", ", "-").replace(" ", "-")
        with self._progress(
            f"training: {run}", settings.epochs * task.num_examples, "samples"
        ) as report:
            train(
                task,
                settings,
                checkpoint=None if self._checkpoints is None else self._checkpoints / f"{file}.pt",
                identity=f"{POLICY}, {file}, {end} of {self.fingerprint}",
                report=report,
            )
        return task.module.eval()

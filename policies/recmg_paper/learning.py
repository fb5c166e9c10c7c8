"""Training of the paper's models on a trace, for each capacity: from labels to a policy directory.

The last fifth of what is learned from validates: nothing is fitted to it but when to stop and how
fast to evict. The order of the id space comes from the first half, so that the models meet rows
that it does not know as often as they will later: learned from all, it makes validation look better
than anything after it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.ids import IdSpace, learn_id_space
from tieralloc.policies.labels import miss_windows, opt_labels
from tieralloc.policies.losses import chamfer_distance
from tieralloc.policies.recmg_paper import decisions
from tieralloc.policies.recmg_paper.decisions import Inputs, decide_keep, decide_prefetches
from tieralloc.policies.recmg_paper.models import CHUNK, CachingModel, PrefetchModel
from tieralloc.policies.recmg_paper.policy import POLICY
from tieralloc.policies.training import Epoch, Learner, Settings, epoch_size, train

from tieralloc._bindings import belady
from tieralloc._common.files import check_writable
from tieralloc._common.progress import Narration, unheard
from tieralloc._common.torch import torch
from tieralloc.policy.directory import (
    Capacity,
    Manifest,
    TrainingTrace,
    fingerprint,
    write_policy,
)
from tieralloc.policy.scripted import compile_module
from tieralloc.policy.simulator import run_simulator
from tieralloc.trace.stream import Stream, count_distinct, fast_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace


#: Accesses after a chunk whose misses are to be prefetched.
WINDOW = 15
#: The eviction speeds that are tried.
EVICTION_SPEEDS = (0, 1, 2, 4, 8)
SETTINGS = Settings(
    epochs=15, patience=4, batch_size=64, epoch_examples=1 << 15, learning_rate=5e-3
)

_VALIDATED = 0.2
_ORDERED = 0.5
_CHECKPOINTS = ".checkpoints"


def train_policy(
    trace: Trace,
    directory: str | os.PathLike[str],
    fast_fractions: list[float],
    *,
    until: float = 0.5,
    seed: int = 0,
    epochs: int = SETTINGS.epochs,
    progress: Narration = unheard,
) -> Manifest:
    """Train both models at each capacity and write a policy directory.

    Interrupted, it goes on from the last epoch when it is called with the same arguments again.

    Parameters
    ----------
    trace : Trace
        What to learn from.
    directory : str or path
        Where to write.
    fast_fractions : list of float
        Capacities, as fractions of the distinct rows of the whole trace, rounded down.
    until : float
        The share of the accesses that is learned from, in (0, 1].
    seed : int
        Of everything that is drawn.
    epochs : int
        Most epochs of training for each model.
    progress : callable
        Opens a bar for the training of each model.

    Returns
    -------
    Manifest
        Of the directory. Its metrics are, for each capacity, miss ratios of the validation slice:
        lru, opt, caching (the caching model alone), prefetching (both models).

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
    settings = replace(SETTINGS, epochs=epochs, seed=seed)
    trained = {}
    for capacity in capacities:
        if capacity.fast_rows not in trained:
            course = _Course(task, capacity, settings, directory / _CHECKPOINTS, progress)
            trained[capacity.fast_rows] = course.run()
    manifest = Manifest(
        policy=POLICY,
        features=decisions.FEATURES,
        tables=list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)),
        trace=TrainingTrace(trace.name, task.fingerprint, task.num_accesses),
        capacities=capacities,
        seed=seed,
        settings={
            "chunk": CHUNK,
            "eviction_speeds": {str(rows): part.speed for rows, part in trained.items()},
        },
        metrics={"validation": [part.metrics for part in trained.values()]},
    )
    models = {}
    for rows, part in trained.items():
        models[f"caching-{rows}"] = part.caching
        models[f"prefetch-{rows}"] = part.prefetch
    write_policy(directory, manifest, models, {"order": task.space.order})
    shutil.rmtree(directory / _CHECKPOINTS, ignore_errors=True)
    return manifest


@dataclass(frozen=True, eq=False)
class _Task:
    """What is learned from."""

    stream: Stream
    fitted: int  # accesses before those that validate, in whole chunks
    fingerprint: str  # of the whole trace
    space: IdSpace
    inputs: Inputs

    @classmethod
    def of(cls, trace: Trace, until: float, seed: int) -> _Task:
        stream = Stream.of(trace, until)
        accesses = stream.accesses
        fitted = int(len(accesses) * (1 - _VALIDATED)) // CHUNK * CHUNK
        if fitted < 2 * CHUNK or len(accesses) - fitted < CHUNK:
            raise ValueError(
                f"trace {trace.name!r} has {len(accesses)} accesses to learn from, expected at"
                f" least {10 * CHUNK}"
            )
        space = learn_id_space(accesses[: int(len(accesses) * _ORDERED)], stream.rows, seed)
        inputs = Inputs.of(accesses, trace.first_rows, space)
        return cls(stream, fitted, fingerprint(trace.accesses()), space, inputs)

    @property
    def num_accesses(self) -> int:
        return len(self.stream.accesses)

    @property
    def fitted_chunks(self) -> int:
        return self.fitted // CHUNK

    def arguments_of_models(self) -> tuple[int, float, float]:
        positions = self.inputs.positions[: self.fitted_chunks]
        return self.stream.num_tables, float(positions.mean()), max(float(positions.std()), 1e-6)

    def miss_ratio(
        self, keep: NDArray[np.bool_], prefetches: NDArray[np.uint64], rows: int, speed: int
    ) -> float:
        """Simulate decisions over all that is learned from; count what validates."""
        model = decisions.external_model(decisions.known(keep, prefetches), speed)
        counts = run_simulator(self.stream, model, rows, count_from=self.fitted).counts
        return counts["on_demand_fetches"] / counts["lookups"]


@dataclass(frozen=True, eq=False)
class _Trained:
    """What training at a capacity came to."""

    caching: bytes
    prefetch: bytes
    speed: int
    metrics: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Course:
    """Training at a capacity: the caching model, then the prefetch model beside it."""

    task: _Task
    capacity: Capacity
    settings: Settings
    checkpoints: Path
    progress: Narration

    def run(self) -> _Trained:
        task, rows = self.task, self.capacity.fast_rows
        labels = opt_labels(task.stream.accesses, task.stream.rows, rows)
        caching = _CachingLearner(task, rows, labels.kept, self._begin(CachingModel))
        self._train("caching", caching)
        keep, speed = caching.decide()
        prefetch = _PrefetchLearner(
            task, rows, labels.missed, (keep, speed), self._begin(PrefetchModel)
        )
        self._train("prefetch", prefetch)
        return _Trained(
            compile_module(caching.module),
            compile_module(prefetch.module),
            speed,
            {
                "fast_fraction": self.capacity.fast_fraction,
                "fast_rows": rows,
                **self._yardsticks(),
                "caching": task.miss_ratio(keep, _nothing(task), rows, speed),
                "prefetching": prefetch.measure(),
            },
        )

    def _begin(self, kind: type[CachingModel] | type[PrefetchModel]) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return kind(*self.task.arguments_of_models()).eval()

    def _train(self, what: str, learner: Learner) -> list[Epoch]:
        rows = self.capacity.fast_rows
        name = f"{what} at {rows:,} rows"
        total = self.settings.epochs * epoch_size(learner, self.settings)
        with self.progress(f"training {name}", total, "chunks") as report:
            return train(
                learner,
                self.settings,
                checkpoint=self.checkpoints / f"{what}-{rows}.pt",
                task=f"{POLICY}, {name}, {self.task.num_accesses} of {self.task.fingerprint}",
                report=report,
            )

    def _yardsticks(self) -> dict[str, float]:
        task, rows = self.task, self.capacity.fast_rows
        lru = run_simulator(task.stream, "lru", rows, count_from=task.fitted)
        opt = belady(task.stream.accesses, task.stream.rows, rows, count_from=task.fitted)
        return {
            name: counts["on_demand_fetches"] / counts["lookups"]
            for name, counts in (("lru", lru.counts), ("opt", opt))
        }


class _CachingLearner:
    """Learns which rows OPT keeps."""

    def __init__(
        self, task: _Task, rows: int, kept: NDArray[np.bool_], module: CachingModel
    ) -> None:
        self.module = module
        self.num_examples = task.fitted_chunks
        self._task = task
        self._rows = rows
        targets = kept[: task.fitted].reshape(-1, CHUNK).astype(np.float32)
        self._targets = torch.from_numpy(targets)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        chunks = self._task.inputs[examples]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            self.module(chunks.positions, chunks.tables), self._targets[examples]
        )

    def measure(self) -> float:
        keep = decide_keep(self.module, self._task.inputs)
        return min(self._miss_ratio(keep, speed) for speed in EVICTION_SPEEDS)

    def decide(self) -> tuple[NDArray[np.bool_], int]:
        """Return the decisions of the model as it is, and the eviction speed that suits them."""
        self.module.eval()
        keep = decide_keep(self.module, self._task.inputs)
        return keep, min(EVICTION_SPEEDS, key=lambda speed: self._miss_ratio(keep, speed))

    def _miss_ratio(self, keep: NDArray[np.bool_], speed: int) -> float:
        return self._task.miss_ratio(keep, _nothing(self._task), self._rows, speed)


class _PrefetchLearner:
    """Learns what OPT misses in the window after each chunk."""

    def __init__(
        self,
        task: _Task,
        rows: int,
        missed: NDArray[np.bool_],
        caching: tuple[NDArray[np.bool_], int],
        module: PrefetchModel,
    ) -> None:
        self.module = module
        self._task = task
        self._rows = rows
        self._keep, self._speed = caching
        windows = miss_windows(task.stream.accesses, missed, CHUNK, WINDOW)
        lengths = np.diff(windows.offsets)[: task.fitted_chunks]
        present = np.arange(WINDOW) < lengths[:, None]
        targets = np.zeros(present.shape, dtype=np.float32)
        targets[present] = task.space.positions[windows.rows[: lengths.sum()]]
        # Where OPT misses nothing there is nothing to learn.
        self._chunks = torch.from_numpy(np.flatnonzero(lengths))
        self._targets = torch.from_numpy(targets).unsqueeze(2)
        self._present = torch.from_numpy(present)
        self.num_examples = len(self._chunks)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        chosen = self._chunks[examples]
        chunks = self._task.inputs[chosen]
        points = self.module(chunks.positions, chunks.tables).unsqueeze(2)
        return chamfer_distance(points, self._targets[chosen], self._present[chosen])

    def measure(self) -> float:
        self.module.eval()
        ahead = decide_prefetches(self.module, self._task.inputs, self._task.space)
        return self._task.miss_ratio(self._keep, ahead, self._rows, self._speed)


def _nothing(task: _Task) -> NDArray[np.uint64]:
    """Return prefetches that are none."""
    return np.empty((len(task.inputs), 0), dtype=np.uint64)

"""Trains the paper's models on a trace, for each capacity, and writes their policy directory.

The last fifth of the training accesses is for validation: it selects the best epoch and the
eviction speed. The id space is learned from the first half only. Otherwise the models would train
on rows whose positions are all known, and meet unknown rows only when serving.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.directory import PolicyOutput, miss_ratio, reference_miss_ratios
from tieralloc.policies.ids import IdSpace, learn_id_space
from tieralloc.policies.labels import miss_windows
from tieralloc.policies.losses import chamfer_distance
from tieralloc.policies.recmg_paper import decisions
from tieralloc.policies.recmg_paper.decisions import Inputs, decide_keep, decide_prefetches
from tieralloc.policies.recmg_paper.models import CHUNK, CachingModel, PrefetchModel
from tieralloc.policies.recmg_paper.policy import POLICY
from tieralloc.policies.training import Settings, TrainingTask, epoch_size, train

from tieralloc._bindings import opt_labels
from tieralloc._common.progress import Progress, silent
from tieralloc._common.torch import torch
from tieralloc.policy.directory import Capacity, Manifest, fingerprint
from tieralloc.policy.scripted import compile_module
from tieralloc.policy.simulator import run_simulator
from tieralloc.trace.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

#: Accesses after a chunk whose misses are prefetch labels.
WINDOW = 15
#: Candidates of the eviction speed.
EVICTION_SPEEDS = (0, 1, 2, 4, 8)
SETTINGS = Settings(
    epochs=15, patience=4, batch_size=64, epoch_examples=1 << 15, learning_rate=5e-3
)

_VALIDATION_SHARE = 0.2  # of the accesses
_ID_SPACE_SHARE = 0.5  # of the accesses


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
    """Train both models at each capacity and write the policy directory.

    Parameters, returns and errors are those of `tieralloc.policies.recmg.training.train_policy`,
    except that models are trained for each of `fast_fractions`, and `epochs` is the max number.
    The metrics are the miss ratios of the last fifth of the training accesses.
    """
    output = PolicyOutput(trace, directory, fast_fractions)
    data = _TrainingData.of(trace, until, seed)
    settings = replace(SETTINGS, epochs=epochs, seed=seed)
    trained = {}
    for capacity in output.capacities:
        if capacity.fast_rows not in trained:
            trainer = _Trainer(data, capacity, settings, output.checkpoints, progress)
            trained[capacity.fast_rows] = trainer.run()
    models = {}
    for rows, result in trained.items():
        models[f"caching-{rows}"] = result.caching
        models[f"prefetch-{rows}"] = result.prefetch
    return output.write(
        POLICY,
        decisions.FEATURES,
        num_accesses=data.num_accesses,
        seed=seed,
        settings={
            "chunk": CHUNK,
            "eviction_speeds": {str(rows): result.speed for rows, result in trained.items()},
        },
        validation=[result.metrics for result in trained.values()],
        models=models,
        arrays={"order": data.space.order},
    )


@dataclass(frozen=True, eq=False)
class _TrainingData:
    """The training accesses, in the forms that both models need."""

    stream: Stream
    num_fitted: int  # accesses before the validation accesses, in whole chunks
    fingerprint: str  # of the whole trace
    space: IdSpace
    inputs: Inputs

    @classmethod
    def of(cls, trace: Trace, until: float, seed: int) -> _TrainingData:
        stream = Stream.of(trace, until)
        accesses = stream.accesses
        num_fitted = int(len(accesses) * (1 - _VALIDATION_SHARE)) // CHUNK * CHUNK
        if num_fitted < 2 * CHUNK or len(accesses) - num_fitted < CHUNK:
            raise ValueError(
                f"trace {trace.name!r}: expected at least {10 * CHUNK} training accesses, got"
                f" {len(accesses)}"
            )
        space = learn_id_space(accesses[: int(len(accesses) * _ID_SPACE_SHARE)], stream.rows, seed)
        inputs = Inputs.of(accesses, trace.first_rows, space)
        return cls(stream, num_fitted, fingerprint(trace.accesses()), space, inputs)

    @property
    def num_accesses(self) -> int:
        return len(self.stream.accesses)

    @property
    def num_fitted_chunks(self) -> int:
        return self.num_fitted // CHUNK

    def model_arguments(self) -> tuple[int, float, float]:
        """Return num_tables, mean and deviation, as `ChunkEncoder` takes them."""
        positions = self.inputs.positions[: self.num_fitted_chunks]
        return self.stream.num_tables, float(positions.mean()), max(float(positions.std()), 1e-6)

    def miss_ratio(
        self, keep: NDArray[np.bool_], prefetches: NDArray[np.uint64], rows: int, speed: int
    ) -> float:
        """Simulate decisions; return the miss ratio of the validation accesses."""
        model = decisions.external_model(decisions.precomputed(keep, prefetches), speed)
        return miss_ratio(
            run_simulator(self.stream, model, rows, count_from=self.num_fitted).counts
        )


@dataclass(frozen=True, eq=False)
class _Trained:
    """The result of training at a capacity."""

    caching: bytes
    prefetch: bytes
    speed: int
    metrics: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains the models of a capacity: the caching model, then the prefetch model with it."""

    data: _TrainingData
    capacity: Capacity
    settings: Settings
    checkpoints: Path
    progress: Progress

    def run(self) -> _Trained:
        data, rows = self.data, self.capacity.fast_rows
        missed, kept = opt_labels(data.stream.accesses, data.stream.rows, rows)
        caching = _CachingTask(data, rows, kept, self._new_model(CachingModel))
        self._train("caching", caching)
        keep, speed = caching.decide()
        prefetch = _PrefetchTask(data, rows, missed, (keep, speed), self._new_model(PrefetchModel))
        self._train("prefetch", prefetch)
        return _Trained(
            compile_module(caching.module),
            compile_module(prefetch.module),
            speed,
            {
                "fast_fraction": self.capacity.fast_fraction,
                "fast_rows": rows,
                **reference_miss_ratios(data.stream, rows, count_from=data.num_fitted),
                "caching": data.miss_ratio(keep, _no_prefetches(data), rows, speed),
                "prefetching": prefetch.measure(),
            },
        )

    def _new_model(self, kind: type[CachingModel] | type[PrefetchModel]) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return kind(*self.data.model_arguments()).eval()

    def _train(self, kind: str, task: TrainingTask) -> None:
        rows = self.capacity.fast_rows
        name = f"{kind} at {rows:,} rows"
        total = self.settings.epochs * epoch_size(task, self.settings)
        with self.progress(f"training {name}", total, "chunks") as report:
            train(
                task,
                self.settings,
                checkpoint=self.checkpoints / f"{kind}-{rows}.pt",
                identity=f"{POLICY}, {name}, {self.data.num_accesses} of {self.data.fingerprint}",
                report=report,
            )


class _CachingTask:
    """Trains the caching model to predict the rows that OPT keeps."""

    def __init__(
        self, data: _TrainingData, rows: int, kept: NDArray[np.bool_], module: CachingModel
    ) -> None:
        self.module = module
        self.num_examples = data.num_fitted_chunks
        self._data = data
        self._rows = rows
        targets = kept[: data.num_fitted].reshape(-1, CHUNK).astype(np.float32)
        self._targets = torch.from_numpy(targets)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        chunks = self._data.inputs[examples]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            self.module(chunks.positions, chunks.tables), self._targets[examples]
        )

    def measure(self) -> float:
        keep = decide_keep(self.module, self._data.inputs)
        return min(self._miss_ratio(keep, speed) for speed in EVICTION_SPEEDS)

    def decide(self) -> tuple[NDArray[np.bool_], int]:
        """Return the decisions of the model, and the eviction speed with the min miss ratio."""
        self.module.eval()
        keep = decide_keep(self.module, self._data.inputs)
        return keep, min(EVICTION_SPEEDS, key=lambda speed: self._miss_ratio(keep, speed))

    def _miss_ratio(self, keep: NDArray[np.bool_], speed: int) -> float:
        return self._data.miss_ratio(keep, _no_prefetches(self._data), self._rows, speed)


class _PrefetchTask:
    """Trains the prefetch model to predict the rows that OPT misses after each chunk."""

    def __init__(
        self,
        data: _TrainingData,
        rows: int,
        missed: NDArray[np.bool_],
        caching: tuple[NDArray[np.bool_], int],
        module: PrefetchModel,
    ) -> None:
        self.module = module
        self._data = data
        self._rows = rows
        self._keep, self._speed = caching
        windows = miss_windows(data.stream.accesses, missed, CHUNK, WINDOW)
        lengths = np.diff(windows.offsets)[: data.num_fitted_chunks]
        present = np.arange(WINDOW) < lengths[:, None]
        targets = np.zeros(present.shape, dtype=np.float32)
        targets[present] = data.space.positions[windows.rows[: lengths.sum()]]
        # Chunks without misses in their window have no targets.
        self._chunks = torch.from_numpy(np.flatnonzero(lengths))
        self._targets = torch.from_numpy(targets).unsqueeze(2)
        self._present = torch.from_numpy(present)
        self.num_examples = len(self._chunks)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        chosen = self._chunks[examples]
        chunks = self._data.inputs[chosen]
        points = self.module(chunks.positions, chunks.tables).unsqueeze(2)
        return chamfer_distance(points, self._targets[chosen], self._present[chosen])

    def measure(self) -> float:
        self.module.eval()
        prefetches = decide_prefetches(self.module, self._data.inputs, self._data.space)
        return self._data.miss_ratio(self._keep, prefetches, self._rows, self._speed)


def _no_prefetches(data: _TrainingData) -> NDArray[np.uint64]:
    """Return decisions to prefetch no rows, as `decide_prefetches` returns them."""
    return np.empty((len(data.inputs), 0), dtype=np.uint64)

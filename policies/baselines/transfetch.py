"""TransFetch: a network predicts the deltas to the next rows from the last accesses.

Predictions depend on the accesses alone, not on the fast tier. So they are computed before a
replay, in batches; the most probable deltas of each access are kept. A setting is the min
probability of a prefetched row: the number of rows varies with the access.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.baselines._native import Predicted
from tieralloc.policies.baselines.baseline import Outcome, Settings, Tier, replay
from tieralloc.policies.baselines.scene import ORDERS, Scene
from tieralloc.policies.baselines.transfetch_model import HISTORY, DeltaNetwork, segment_count
from tieralloc.policies.training import Settings as TrainingSettings
from tieralloc.policies.training import train

from tieralloc._common.torch import one_thread, torch
from tieralloc.policy.directory import fingerprint
from tieralloc.policy.scripted import compile_module, load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Max absolute delta.
REACH = 64

#: Number of next accesses whose deltas are predicted.
WINDOW = 32

#: Number of deltas kept per access, the most probable ones.
KEPT = 16

TRAINING = TrainingSettings(
    epochs=3,
    batch_size=512,
    epoch_examples=80_000,
    learning_rate=2e-3,
    one_cycle=True,
    measured=False,
)

_MIN_ACCESSES = 200
_BATCH_ACCESSES = 8192


class DeltaTask:
    """Trains a `DeltaNetwork` on the deltas after each access, (n,), of a stream.

    `table_of`, (rows,), is the table of each row.
    """

    def __init__(
        self, accesses: NDArray[np.uint64], table_of: NDArray[np.uint32], seed: int
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._module = DeltaNetwork(
                segment_count(len(table_of)), int(table_of.max()) + 1, REACH
            )
        self._histories = _Histories(accesses, table_of)
        self._next_accesses = _sliding(accesses.astype(np.int64), WINDOW + 1)

    @property
    def module(self) -> torch.nn.Module:
        """The network."""
        return self._module

    @property
    def num_examples(self) -> int:
        """Number of accesses with `WINDOW` accesses after them."""
        return len(self._next_accesses)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean over examples of the summed cross entropy of their deltas."""
        logits = self._module(*self._histories[examples])
        rows = self._next_accesses[examples]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, delta_bitmaps(rows[:, 0], rows[:, 1:]), reduction="sum"
        ) / len(examples)

    def measure(self) -> float:
        """Return 0: the number of epochs is fixed."""
        return 0.0


def delta_bitmaps(rows: torch.Tensor, next_rows: torch.Tensor) -> torch.Tensor:
    """Return the deltas from rows, (n,), to the next rows, (n, w), as bits, (n, 2 * REACH) float.

    A negative delta ``d`` is bit ``d + REACH``, a positive one bit ``d + REACH - 1``.
    """
    deltas = next_rows - rows[:, None]
    is_in_reach = (deltas != 0) & (deltas.abs() <= REACH)
    bits = torch.where(is_in_reach, deltas + REACH - (deltas > 0).long(), 2 * REACH)
    bitmaps = torch.zeros(len(rows), 2 * REACH + 1)
    return bitmaps.scatter_(1, bits, 1.0)[:, :-1]


def _sliding(values: NDArray[np.int64], length: int) -> torch.Tensor:
    """Return a view of all windows of a length, (n - length + 1, length)."""
    return torch.from_numpy(values).unfold(0, length, 1)


class _Histories:
    """Rows and tables of the last `HISTORY` accesses at each access of a stream."""

    def __init__(self, accesses: NDArray[np.uint64], table_of: NDArray[np.uint32]) -> None:
        tables = table_of[accesses].astype(np.int64)
        self._rows = self._padded(accesses.astype(np.int64), 0)
        self._tables = self._padded(tables, int(table_of.max()) + 1)

    @staticmethod
    def _padded(values: NDArray[np.int64], padding: int) -> torch.Tensor:
        padded = np.concatenate([np.full(HISTORY - 1, padding), values])
        return _sliding(padded, HISTORY)

    def __getitem__(self, accesses: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rows[accesses], self._tables[accesses]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The most probable rows after each access."""

    rows: NDArray[np.uint64]  # (n, KEPT): predicted rows, by descending probability
    probabilities: NDArray[np.float32]  # (n, KEPT): their probabilities; 0 for a row out of range
    seconds: float  # CPU seconds of all predictions
    model_bytes: int  # size of the compiled network in bytes

    def choose(
        self, begin: int, end: int, least_chance: float, degree: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the arguments of `Predicted.append` for accesses `begin` to `end - 1`."""
        is_chosen = self.probabilities[begin:end, :degree] >= least_chance
        offsets = np.append(0, np.cumsum(is_chosen.sum(axis=1))).astype(np.uint64)
        return np.ascontiguousarray(self.rows[begin:end, :degree][is_chosen]), offsets


@dataclass
class TransFetch:
    """The TransFetch baseline. It caches the predictions of each scene."""

    checkpoints: Path | None = None  # folder of checkpoints; finished trainings are loaded from it
    training: TrainingSettings = TRAINING
    _predictions: dict[tuple[str, int, int, str], Predictions] = field(
        default_factory=dict, repr=False
    )

    name = "transfetch"
    choices: Mapping[str, tuple[Any, ...]] = field(
        default_factory=lambda: {
            "order": ORDERS,
            "least_chance": (0.5, 0.05, 0.1, 0.2, 0.3, 0.7),
            "degree": (KEPT, 1, 2, 4, 8),
            "all_accesses": (True, False),
        }
    )

    def prepare(self, scene: Scene, settings: Settings) -> None:
        """Train and predict."""
        self.predict(scene, settings["order"])

    @one_thread()
    def replay(self, scene: Scene, tier: Tier, settings: Settings, *, count_from: int) -> Outcome:
        """Replay a scene."""
        order = settings["order"]
        predictions = self.predict(scene, order)
        prefetcher = Predicted(all_accesses=settings["all_accesses"])

        def append_predictions(begin: int, end: int) -> None:
            prefetcher.append(
                *predictions.choose(begin, end, settings["least_chance"], settings["degree"])
            )

        outcome = replay(
            scene, order, tier, prefetcher, count_from=count_from, before_batch=append_predictions
        )
        nbytes = predictions.model_bytes + scene.order_bytes(order)
        return replace(outcome, nbytes=nbytes, predict_seconds=predictions.seconds)

    @one_thread()
    def predict(self, scene: Scene, order: str) -> Predictions:
        """Return the predictions for all accesses of a scene; train on its training accesses."""
        key = (fingerprint(scene.stream.accesses), scene.num_training, scene.seed, order)
        if key not in self._predictions:
            compiled = self._train(scene, order)
            self._predictions[key] = predict(compiled, scene.accesses(order), scene.table_of(order))
        return self._predictions[key]

    def _train(self, scene: Scene, order: str) -> bytes:
        if scene.num_training < _MIN_ACCESSES:
            raise ValueError(
                f"num_training: expected at least {_MIN_ACCESSES} training accesses, got"
                f" {scene.num_training}"
            )
        accesses = scene.accesses(order)[: scene.num_training]
        task = DeltaTask(accesses, scene.table_of(order), scene.seed)
        settings = replace(self.training, seed=scene.seed)
        trace = fingerprint(accesses)
        checkpoint = None
        if self.checkpoints is not None:
            checkpoint = self.checkpoints / f"{self.name}-{order}-{trace[:12]}.pt"
        identity = f"{self.name}, {trace}, reach {REACH}, window {WINDOW}"
        train(task, settings, checkpoint=checkpoint, identity=identity)
        return compile_module(task.module)


def predict(
    compiled: bytes, accesses: NDArray[np.uint64], table_of: NDArray[np.uint32]
) -> Predictions:
    """Return the predictions of a compiled network after each access."""
    module = load_module(compiled, TransFetch.name)
    began = time.process_time()
    total = len(accesses)
    rows = np.empty((total, KEPT), dtype=np.uint64)
    probabilities = np.empty((total, KEPT), dtype=np.float32)
    histories = _Histories(accesses, table_of)
    accessed = torch.from_numpy(accesses.astype(np.int64))
    with torch.inference_mode():
        for begin in range(0, total, _BATCH_ACCESSES):
            batch = slice(begin, begin + _BATCH_ACCESSES)
            top = module(*histories[batch]).sigmoid().topk(KEPT)
            deltas = top.indices - REACH + (top.indices >= REACH).long()
            next_rows = accessed[batch, None] + deltas
            in_range = (next_rows >= 0) & (next_rows < len(table_of))
            rows[batch] = torch.where(in_range, next_rows, 0).numpy()
            probabilities[batch] = torch.where(in_range, top.values, 0).numpy()
    seconds = time.process_time() - began
    return Predictions(rows, probabilities, seconds, len(compiled))

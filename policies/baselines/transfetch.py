"""TransFetch: a network that predicts the deltas after the last accesses, trained on the past.

Predictions depend on the accesses alone, not on the fast tier: they are computed before a replay,
in batches, and the most probable deltas of each access are kept. A setting is the min probability
of a prefetched row: the number of rows varies with the access.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.baselines._native import Predicted
from tieralloc.policies.baselines.baseline import Outcome, Report, Settings, Tier, run
from tieralloc.policies.baselines.scene import ORDERS, Scene, Stream
from tieralloc.policies.baselines.transfetch_model import HISTORY, DeltaNetwork, segment_count
from tieralloc.policies.training import Settings as TrainingSettings
from tieralloc.policies.training import train

from tieralloc._common.progress import Narration, unheard
from tieralloc._common.torch import one_thread, torch
from tieralloc.policy.directory import fingerprint
from tieralloc.policy.scripted import compile_module, load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Max delta either way.
REACH = 64

#: Next accesses whose deltas are predicted.
WINDOW = 32

#: Deltas kept per access, the most probable.
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
_BATCH = 8192  # accesses


class DeltaLearner:
    """Examples of the deltas after each access of a stream, and their loss.

    Parameters
    ----------
    stream : Stream
        The accesses to learn from.
    seed : int
        Random seed of the initial weights.
    """

    def __init__(self, stream: Stream, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._module = DeltaNetwork(
                segment_count(stream.rows), int(stream.table_of.max()) + 1, REACH
            )
        self._windows = _Windows(stream)
        numbers = stream.accesses.astype(np.int64)
        self._after = _sliding(numbers, WINDOW + 1)

    @property
    def module(self) -> torch.nn.Module:
        """The network."""
        return self._module

    @property
    def num_examples(self) -> int:
        """Accesses that have `WINDOW` accesses after them."""
        return len(self._after)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean over examples of the summed cross entropy of their deltas."""
        logits = self._module(*self._windows.of(examples))
        after = self._after[examples]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, delta_bitmaps(after[:, 0], after[:, 1:]), reduction="sum"
        ) / len(examples)

    def measure(self) -> float:
        """Return 0: settings are tested by replays."""
        return 0.0


def delta_bitmaps(rows: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mark the deltas from rows, (n,), to the next ones, (n, w), in (n, 2 * REACH) of 0 and 1.

    A negative delta ``d`` is at place ``d + REACH``, a positive one at ``d + REACH - 1``.
    """
    deltas = after - rows[:, None]
    known = (deltas != 0) & (deltas.abs() <= REACH)
    places = torch.where(known, deltas + REACH - (deltas > 0).long(), 2 * REACH)
    marks = torch.zeros(len(rows), 2 * REACH + 1)
    return marks.scatter_(1, places, 1.0)[:, :-1]


def _sliding(values: NDArray[np.int64], length: int) -> torch.Tensor:
    """Return a view of all windows of a length, (n - length + 1, length)."""
    return torch.from_numpy(values).unfold(0, length, 1)


class _Windows:
    """The last accesses at each access of a stream."""

    def __init__(self, stream: Stream) -> None:
        numbers = stream.accesses.astype(np.int64)
        tables = stream.table_of[stream.accesses].astype(np.int64)
        nothing = int(stream.table_of.max()) + 1
        self._rows = self._padded(numbers, 0)
        self._tables = self._padded(tables, nothing)

    @staticmethod
    def _padded(values: NDArray[np.int64], before: int) -> torch.Tensor:
        padded = np.concatenate([np.full(HISTORY - 1, before), values])
        return _sliding(padded, HISTORY)

    def of(self, accesses: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rows[accesses], self._tables[accesses]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The most probable rows after each access.

    Parameters
    ----------
    rows : (n, KEPT) uint64
        The most probable first.
    probabilities : (n, KEPT) float32
        0 for a row that does not exist.
    seconds : float
        CPU seconds of all predictions.
    model_bytes : int
        Bytes of the compiled network.
    """

    rows: NDArray[np.uint64]
    probabilities: NDArray[np.float32]
    seconds: float
    model_bytes: int

    def choose(
        self, begin: int, end: int, least_chance: float, degree: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return rows to prefetch after accesses `begin` to `end - 1`, for `Predicted.append`."""
        is_chosen = self.probabilities[begin:end, :degree] >= least_chance
        offsets = np.append(0, np.cumsum(is_chosen.sum(axis=1))).astype(np.uint64)
        return np.ascontiguousarray(self.rows[begin:end, :degree][is_chosen]), offsets


@dataclass
class TransFetch:
    """The baseline. It keeps the predictions of each scene.

    Parameters
    ----------
    checkpoints : path, optional
        Folder of finished trainings, which are not repeated.
    progress : callable
        Opens a progress bar for a training.
    training : Settings
        Settings of the training.
    """

    checkpoints: Path | None = None
    progress: Narration = unheard
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
        """Train, and predict."""
        self.predict(scene, settings["order"])

    @one_thread()
    def replay(
        self,
        scene: Scene,
        tier: Tier,
        settings: Settings,
        *,
        count_from: int,
        report: Report = lambda done: None,
    ) -> Outcome:
        """Replay a scene."""
        order = settings["order"]
        predictions = self.predict(scene, order)
        prefetcher = Predicted(all_accesses=settings["all_accesses"])

        def append(begin: int, end: int) -> None:
            prefetcher.append(
                *predictions.choose(begin, end, settings["least_chance"], settings["degree"])
            )

        counts = run(
            scene.ordered(order),
            tier,
            prefetcher,
            count_from=count_from,
            report=report,
            before=append,
        )
        nbytes = predictions.model_bytes + scene.order_bytes(order)
        return Outcome(counts, nbytes, predictions.seconds)

    @one_thread()
    def predict(self, scene: Scene, order: str) -> Predictions:
        """Train on the accesses to learn from, unless done before; predict the whole scene."""
        key = (fingerprint(scene.stream.accesses), scene.learned, scene.seed, order)
        if key not in self._predictions:
            compiled = self._train(scene, order)
            self._predictions[key] = predict(compiled, scene.ordered(order))
        return self._predictions[key]

    def _train(self, scene: Scene, order: str) -> bytes:
        if scene.learned < _MIN_ACCESSES:
            raise ValueError(
                f"there are {scene.learned} accesses to learn from, expected at least"
                f" {_MIN_ACCESSES}"
            )
        past = scene.ordered(order).until(scene.learned)
        learner = DeltaLearner(past, scene.seed)
        settings = replace(self.training, seed=scene.seed)
        identity = fingerprint(past.accesses)
        checkpoint = None
        if self.checkpoints is not None:
            checkpoint = self.checkpoints / f"{self.name}-{order}-{identity[:12]}.pt"
        total = settings.epochs * min(settings.epoch_examples or 0, learner.num_examples)
        with self.progress(f"training: {self.name}, {order} ids", total, "accesses") as narrate:
            task = f"{self.name}, {identity}, reach {REACH}, window {WINDOW}"
            train(learner, settings, checkpoint=checkpoint, identity=task, report=narrate)
        return compile_module(learner.module)


def predict(compiled: bytes, stream: Stream) -> Predictions:
    """Predict the rows after each access of a stream with a compiled network."""
    module = load_module(compiled, TransFetch.name)
    began = time.process_time()
    total = len(stream.accesses)
    rows = np.empty((total, KEPT), dtype=np.uint64)
    probabilities = np.empty((total, KEPT), dtype=np.float32)
    windows = _Windows(stream)
    numbers = torch.from_numpy(stream.accesses.astype(np.int64))
    with torch.inference_mode():
        for begin in range(0, total, _BATCH):
            part = slice(begin, begin + _BATCH)
            top = module(*windows.of(part)).sigmoid().topk(KEPT)
            places = top.indices
            deltas = places - REACH + (places >= REACH).long()
            next_rows = numbers[part, None] + deltas
            exist = (next_rows >= 0) & (next_rows < stream.rows)
            rows[part] = torch.where(exist, next_rows, 0).numpy()
            probabilities[part] = torch.where(exist, top.values, 0).numpy()
    seconds = time.process_time() - began
    return Predictions(rows, probabilities, seconds, len(compiled))

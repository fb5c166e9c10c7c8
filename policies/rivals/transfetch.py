"""TransFetch: a network that says which deltas follow the last accesses, trained on the past.

Its answers depend on the accesses alone, not on the fast tier: all are worked out before a replay,
in batches, and the most likely deltas of each access are kept. A setting says how likely one has to
be to be fetched, which makes the number of rows vary with the access.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._core import Foretold
from tieralloc._progress import Narration, unheard
from tieralloc._scripted import compile_module, load_module
from tieralloc._torch import one_thread, torch
from tieralloc.policies.rivals.rival import Outcome, Report, Settings, Tier, run
from tieralloc.policies.rivals.scene import ORDERS, Scene, Stream
from tieralloc.policies.rivals.transfetch_model import HISTORY, DeltaNetwork, segment_count
from tieralloc.policies.training import Settings as TrainingSettings
from tieralloc.policies.training import train
from tieralloc.policy_directory import fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Deltas up to so many rows either way.
REACH = 64

#: Accesses that follow, whose deltas are foretold.
WINDOW = 32

#: Deltas of an access that are kept, the likeliest.
KEPT = 16

TRAINING = TrainingSettings(
    rounds=3,
    batch_size=512,
    round_examples=80_000,
    learning_rate=2e-3,
    one_cycle=True,
    measured=False,
)

_LEAST_ACCESSES = 200
_BATCH = 8192  # accesses asked about at a time


class DeltaLearner:
    """What follows each access of a stream, to be learned.

    Parameters
    ----------
    stream : Stream
        All of it is learned from.
    seed : int
        Of the network's first weights.
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
        """Accesses with as many after them as are foretold."""
        return len(self._after)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean over examples of their deltas' cross entropies, added up."""
        logits = self._module(*self._windows.of(examples))
        after = self._after[examples]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, delta_bitmaps(after[:, 0], after[:, 1:]), reduction="sum"
        ) / len(examples)

    def measure(self) -> float:
        """Nothing is measured: settings are, by replaying."""
        return 0.0


def delta_bitmaps(rows: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mark the deltas from rows, (n,), to those that follow, (n, w): (n, 2 * REACH) of 0 and 1.

    Place ``d + REACH`` stands for a delta ``d`` below 0, ``d + REACH - 1`` for one above.
    """
    deltas = after - rows[:, None]
    known = (deltas != 0) & (deltas.abs() <= REACH)
    places = torch.where(known, deltas + REACH - (deltas > 0).long(), 2 * REACH)
    marks = torch.zeros(len(rows), 2 * REACH + 1)
    return marks.scatter_(1, places, 1.0)[:, :-1]


def _sliding(values: NDArray[np.int64], length: int) -> torch.Tensor:
    """Return a view of every run of so many values, (n - length + 1, length)."""
    return torch.from_numpy(values).unfold(0, length, 1)


class _Windows:
    """The last accesses up to any of a stream's."""

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
class Foreseen:
    """The likeliest rows after each access, as a network has it.

    Parameters
    ----------
    rows : (n, KEPT) uint64
        The likeliest first.
    chances : (n, KEPT) float32
        Of each; 0 where there is no such row.
    seconds : float
        CPU time that it took, all accesses together.
    model_bytes : int
        Of the compiled network.
    """

    rows: NDArray[np.uint64]
    chances: NDArray[np.float32]
    seconds: float
    model_bytes: int

    def chosen(
        self, begin: int, end: int, least_chance: float, degree: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return rows to fetch after accesses `begin` to `end - 1`, as `Foretold.tell` has it."""
        likely = self.chances[begin:end, :degree] >= least_chance
        offsets = np.append(0, np.cumsum(likely.sum(axis=1))).astype(np.uint64)
        return np.ascontiguousarray(self.rows[begin:end, :degree][likely]), offsets


@dataclass
class TransFetch:
    """The rival. What it learned from a scene, it remembers.

    Parameters
    ----------
    checkpoints : path, optional
        Where trainings are kept, so that none is done twice.
    progress : callable
        Opens a bar for a training.
    training : Settings
        How networks are trained.
    """

    checkpoints: Path | None = None
    progress: Narration = unheard
    training: TrainingSettings = TRAINING
    _foreseen: dict[tuple[str, int, int, str], Foreseen] = field(default_factory=dict, repr=False)

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
        """Train, and ask what follows each access."""
        self.foresee(scene, settings["order"])

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
        """Replay a scene with it over a tier."""
        order = settings["order"]
        foreseen = self.foresee(scene, order)
        prefetcher = Foretold(all_accesses=settings["all_accesses"])

        def tell(begin: int, end: int) -> None:
            prefetcher.tell(
                *foreseen.chosen(begin, end, settings["least_chance"], settings["degree"])
            )

        counts = run(
            scene.ordered(order),
            tier,
            prefetcher,
            count_from=count_from,
            report=report,
            before=tell,
        )
        nbytes = foreseen.model_bytes + scene.order_bytes(order)
        return Outcome(counts, nbytes, foreseen.seconds)

    @one_thread()
    def foresee(self, scene: Scene, order: str) -> Foreseen:
        """Train on what may be learned from, unless that was done, and ask of the whole scene."""
        key = (fingerprint(scene.stream.accesses), scene.learned, scene.seed, order)
        if key not in self._foreseen:
            compiled = self._train(scene, order)
            self._foreseen[key] = foresee(compiled, scene.ordered(order))
        return self._foreseen[key]

    def _train(self, scene: Scene, order: str) -> bytes:
        if scene.learned < _LEAST_ACCESSES:
            raise ValueError(
                f"there are {scene.learned} accesses to learn from, expected at least"
                f" {_LEAST_ACCESSES}"
            )
        past = scene.ordered(order).until(scene.learned)
        learner = DeltaLearner(past, scene.seed)
        settings = replace(self.training, seed=scene.seed)
        identity = fingerprint(past.accesses)
        checkpoint = None
        if self.checkpoints is not None:
            checkpoint = self.checkpoints / f"{self.name}-{order}-{identity[:12]}.pt"
        total = settings.rounds * min(settings.round_examples or 0, learner.num_examples)
        with self.progress(f"training: {self.name}, {order} ids", total, "accesses") as narrate:
            task = f"{self.name}, {identity}, reach {REACH}, window {WINDOW}"
            train(learner, settings, checkpoint=checkpoint, task=task, report=narrate)
        return compile_module(learner.module)


def foresee(compiled: bytes, stream: Stream) -> Foreseen:
    """Ask a compiled network what follows each access of a stream."""
    module = load_module(compiled, TransFetch.name)
    began = time.process_time()
    total = len(stream.accesses)
    rows = np.empty((total, KEPT), dtype=np.uint64)
    chances = np.empty((total, KEPT), dtype=np.float32)
    windows = _Windows(stream)
    numbers = torch.from_numpy(stream.accesses.astype(np.int64))
    with torch.inference_mode():
        for begin in range(0, total, _BATCH):
            part = slice(begin, begin + _BATCH)
            likeliest = module(*windows.of(part)).sigmoid().topk(KEPT)
            places = likeliest.indices
            deltas = places - REACH + (places >= REACH).long()
            found = numbers[part, None] + deltas
            there = (found >= 0) & (found < stream.rows)
            rows[part] = torch.where(there, found, 0).numpy()
            chances[part] = torch.where(there, likeliest.values, 0).numpy()
    seconds = time.process_time() - began
    return Foreseen(rows, chances, seconds, len(compiled))

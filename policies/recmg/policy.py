"""A trained `recmg`: what serving asks of it, and its simulation, one access at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._advising import RIVALS
from tieralloc._core import (
    CANDIDATE_FEATURES_VERSION,
    MOST_CONTEXTS,
    PREFETCH_HORIZON,
    ROW_FEATURES_VERSION,
    Prefetcher,
    RowHistory,
    ScoredSimulator,
    candidate_feature_names,
    row_feature_names,
)
from tieralloc._scripted import load_module
from tieralloc._torch import one_thread, torch
from tieralloc.policies.recmg.horizons import AHEAD_HORIZONS, eviction_age, horizon_weights
from tieralloc.policies.recmg.memory import Memory
from tieralloc.policy_directory import FeatureSpec, PolicyDirectory, read_policy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from tieralloc.trace import Trace

POLICY = "recmg"

#: Of each row that is asked about: what `RowHistory.features` says; and of one that might be
#: fetched ahead, what `Prefetcher.candidates` says beyond that.
FEATURES = FeatureSpec(
    "row history and candidates",
    1000 * ROW_FEATURES_VERSION + CANDIDATE_FEATURES_VERSION,
    len(row_feature_names()) + len(candidate_feature_names()),
)

#: Residents that are scored at a time, and how many of them are advised to leave.
CANDIDATES, VICTIMS = 256, 8

#: The chance to be asked for within `PREFETCH_HORIZON` accesses that makes a row worth a read.
LEAST_CHANCE = 0.04

#: From features, (n, F) float32, to what rows are worth, (n,) float32.
Score = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]

_PIECE = 1 << 14  # samples


@dataclass(frozen=True, eq=False)
class Models:
    """The models, and what turns their answers into scores.

    Parameters
    ----------
    caching : torch module
        As `HorizonModel`, of features of a row.
    prefetch : torch module or None
        As `HorizonModel`, of features of a candidate; None: nothing is fetched ahead.
    horizons : sequence of int
        Of the caching model.
    ages : sequence of (int, float)
        Capacities and eviction ages, as of `eviction_ages`.
    """

    caching: torch.nn.Module
    prefetch: torch.nn.Module | None
    horizons: Sequence[int]
    ages: Sequence[tuple[int, float]]

    def scorer(self, fast_rows: int) -> Score:
        """Return what scores rows for a fast tier of so many rows: the lowest leave first."""
        weights = horizon_weights(self.horizons, eviction_age(self.ages, fast_rows))
        return _scorer(self.caching, weights)

    def ahead_scorer(self) -> Score | None:
        """Return what tells the chance of candidates to be asked for in time."""
        if self.prefetch is None:
            return None
        weights = np.array([horizon == PREFETCH_HORIZON for horizon in AHEAD_HORIZONS])
        return _scorer(self.prefetch, weights.astype(np.float32))

    def simulator(
        self,
        history: RowHistory,
        fast_rows: int,
        *,
        logged: int,
        count_from: int,
        guide_from: int = 0,
        guarded: bool = False,
        lag: int = 0,
    ) -> ScoredSimulator:
        """Make a simulator, as `ScoredSimulator` takes it, of a fast tier, with rivals or not.

        What is fetched ahead goes by the last `logged` accesses; none: nothing is.
        """
        prefetcher = _prefetcher(logged)
        return ScoredSimulator(
            history,
            fast_rows,
            self.scorer(fast_rows),
            candidates=CANDIDATES,
            victims=VICTIMS,
            count_from=count_from,
            guide_from=guide_from,
            prefetcher=prefetcher,
            score_ahead=None if prefetcher is None else self.ahead_scorer(),
            lag=lag,
            rivals=RIVALS if guarded else (),
        )


def _prefetcher(logged: int) -> Prefetcher | None:
    """Make what chooses what to fetch ahead by so many accesses looked back over, if by any."""
    return Prefetcher(logged, LEAST_CHANCE) if logged else None


def _scorer(model: torch.nn.Module, weights: NDArray[np.float32]) -> Score:
    """Return what scores rows by a model and the weights of its horizons."""
    worth = torch.from_numpy(weights)

    def score(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = model(torch.from_numpy(features), worth).numpy()
        return found

    return score


class RecmgPolicy:
    """The trained policy; made by `load`.

    Parameters
    ----------
    name : str
        What records call it.
    """

    prefetches = True

    def __init__(
        self, name: str, directory: PolicyDirectory, models: Models, contexts: Sequence[int]
    ) -> None:
        self.name = name
        self.directory = directory
        self.models = models
        self._contexts = contexts

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = POLICY) -> Self:
        """Read a directory that `tieralloc train` made.

        Its models are programs: load those only whose maker you trust.

        Raises
        ------
        ValueError
            Where it holds no such policy, one of other features, or a damaged one.
        OSError
            Where it cannot be read.
        """
        directory = read_policy(path)
        directory.check_fits(POLICY, FEATURES)
        settings = directory.manifest.settings
        try:
            horizons = [int(horizon) for horizon in settings["horizons"]]
            ages = [(int(rows), float(age)) for rows, age in settings["eviction_ages"]]
            contexts = [int(table) for table in settings["contexts"]]
            ahead = tuple(settings["ahead_horizons"])
            compiled = directory.models["caching"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{directory.path} is no sound {POLICY}: {error!r}") from error
        caching, prefetch = load_module(compiled, "caching"), None
        if cls.prefetches and "prefetch" in directory.models:
            prefetch = load_module(directory.models["prefetch"], "prefetch")
        models = Models(caching, prefetch, horizons, ages)
        policy = cls(name, directory, models, contexts)
        policy._check(ahead)
        return policy

    def with_models(self, models: Models) -> Self:
        """Return one that asks other models, and is the same else."""
        return type(self)(self.name, self.directory, models, self._contexts)

    def _check(self, ahead_horizons: Sequence[int]) -> None:
        """Refuse what would fail later, or go wrong unnoticed."""
        tables = len(self.directory.manifest.tables)
        horizons, ages = self.models.horizons, self.models.ages
        sound = (
            bool(horizons and ages and tables)
            and all(a < b for a, b in zip([0, *horizons], horizons, strict=False))
            and all(rows > 0 and age > 0 for rows, age in ages)
            and all(0 <= table < tables for table in self._contexts)
            and len(self._contexts) <= MOST_CONTEXTS
            and ahead_horizons == AHEAD_HORIZONS
        )
        if not sound:
            raise ValueError(f"{self.directory.path} is no sound {POLICY}: its settings are amiss")
        self._check_model("caching", self.models.scorer(1), len(row_feature_names()))
        ahead = self.models.ahead_scorer()
        if ahead is not None:
            self._check_model("prefetch", ahead, FEATURES.width)

    def _check_model(self, name: str, score: Score, width: int) -> None:
        try:
            found = score(np.zeros((2, width), dtype=np.float32))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{self.directory.path}: its {name} model fails: {reason}") from error
        if found.shape != (2,) or found.dtype != np.float32:
            raise ValueError(
                f"{self.directory.path}: its {name} model gives scores of shape {found.shape} and"
                f" dtype {found.dtype} for 2 rows, expected float32 of shape (2,)"
            )

    def check(self, trace: Trace) -> None:
        """Refuse a trace of other tables than those trained on, with a ValueError."""
        self.directory.check_tables(
            list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
        )

    def memory(self, fast_rows: int, most_bytes: int | None = None) -> Memory:
        """Return how much is remembered beside a fast tier; raise ValueError for too few bytes."""
        return Memory.within(
            most_bytes,
            fast_rows,
            rows=sum(rows for _, rows in self.directory.manifest.tables),
            has_contexts=bool(self._contexts),
            fetches_ahead=self.models.prefetch is not None,
        )

    def history(self, memory: Memory) -> RowHistory:
        """Make an empty history."""
        rows = [rows for _, rows in self.directory.manifest.tables]
        return RowHistory(np.cumsum([0, *rows]).astype(np.uint64), memory.rows, self._contexts)

    def prefetcher(self, memory: Memory) -> Prefetcher | None:
        """Make what chooses what to fetch ahead, if anything is."""
        return _prefetcher(memory.accesses)

    def nbytes(self, fast_rows: int) -> int:
        """Bytes that it takes beside a fast tier of so many rows: what it remembers, its models."""
        names = ["caching"] if self.models.prefetch is None else ["caching", "prefetch"]
        models = sum(len(self.directory.models[name]) for name in names)
        return models + self.memory(fast_rows).nbytes

    @one_thread()
    def count(
        self,
        trace: Trace,
        capacity: int,
        *,
        count_from: int,
        memory: Memory | None = None,
        lag: int = 0,
        report: Callable[[int], object],
    ) -> Mapping[str, Any]:
        """Replay a trace at any capacity, remembering as much as is worth it or as is given.

        Rows fetched ahead are in flight for `lag` accesses.
        """
        memory = memory or self.memory(capacity)
        simulator = self.models.simulator(
            self.history(memory),
            capacity,
            logged=memory.accesses,
            count_from=count_from,
            guarded=True,
            lag=lag,
        )
        accesses = trace.accesses()
        lengths = trace.lengths.sum(axis=0, dtype=np.uint32)
        begin = 0
        for first in range(0, len(lengths), _PIECE):
            piece = lengths[first : first + _PIECE]
            end = begin + int(piece.sum())
            simulator.run(accesses[begin:end], piece)
            report(end - begin)
            begin = end
        return simulator.counts


class RecmgCachingPolicy(RecmgPolicy):
    """The same without prefetching: of the directory the caching model alone is used."""

    prefetches = False

"""A trained `recmg`: what serving asks of it, and its simulation, one access at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._core import (
    MOST_CONTEXTS,
    ROW_FEATURES_VERSION,
    RowHistory,
    ScoredSimulator,
    row_feature_names,
)
from tieralloc._scripted import load_module
from tieralloc._torch import torch
from tieralloc.policies.recmg.horizons import eviction_age, horizon_weights
from tieralloc.policy_directory import FeatureSpec, PolicyDirectory, read_policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

POLICY = "recmg"

#: Of each row that is asked about: what `RowHistory.features` says.
FEATURES = FeatureSpec("row history", ROW_FEATURES_VERSION, len(row_feature_names()))

#: Residents that are scored at a time, and how many of them are advised to leave.
CANDIDATES, VICTIMS = 256, 8

#: Rows that are remembered for each row of the fast tier.
REMEMBERED = 8

#: From features, (n, F) float32, to what rows are worth, (n,) float32.
Score = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]

_PIECE = 1 << 14  # samples


def scorer(model: torch.nn.Module, weights: NDArray[np.float32]) -> Score:
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

    def __init__(
        self,
        name: str,
        directory: PolicyDirectory,
        model: torch.nn.Module,
        horizons: Sequence[int],
        ages: Sequence[tuple[int, float]],
        contexts: Sequence[int],
    ) -> None:
        self.name = name
        self.directory = directory
        self._model = model
        self._horizons = horizons
        self._ages = ages
        self._contexts = contexts

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = POLICY) -> RecmgPolicy:
        """Read a directory that `tieralloc train` made.

        Its model is a program: load those only whose maker you trust.

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
            compiled = directory.models["caching"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{directory.path} is no sound {POLICY}: {error!r}") from error
        model = load_module(compiled, "caching")
        policy = cls(name, directory, model, horizons, ages, contexts)
        policy._check()
        return policy

    def _check(self) -> None:
        """Refuse what would fail later, or go wrong unnoticed."""
        tables = len(self.directory.manifest.tables)
        sound = (
            bool(self._horizons and self._ages and tables)
            and all(a < b for a, b in zip([0, *self._horizons], self._horizons, strict=False))
            and all(rows > 0 and age > 0 for rows, age in self._ages)
            and all(0 <= table < tables for table in self._contexts)
            and len(self._contexts) <= MOST_CONTEXTS
        )
        if not sound:
            raise ValueError(f"{self.directory.path} is no sound {POLICY}: its settings are amiss")
        try:
            found = self.scorer(1)(np.zeros((2, FEATURES.width), dtype=np.float32))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{self.directory.path}: its model fails: {reason}") from error
        if found.shape != (2,) or found.dtype != np.float32:
            raise ValueError(
                f"{self.directory.path}: its model gives scores of shape {found.shape} and dtype"
                f" {found.dtype} for 2 rows, expected float32 of shape (2,)"
            )

    def check(self, trace: Trace) -> None:
        """Refuse a trace of other tables than those trained on, with a ValueError."""
        self.directory.check_tables(
            list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
        )

    def history(self, fast_rows: int) -> RowHistory:
        """Make an empty history for a fast tier of this many rows."""
        rows = [rows for _, rows in self.directory.manifest.tables]
        starts = np.cumsum([0, *rows]).astype(np.uint64)
        return RowHistory(starts, min(REMEMBERED * fast_rows, int(starts[-1])), self._contexts)

    def scorer(self, fast_rows: int) -> Score:
        """Return what scores rows for a fast tier of this many rows: the lowest leave first."""
        weights = horizon_weights(self._horizons, eviction_age(self._ages, fast_rows))
        return scorer(self._model, weights)

    def count(
        self,
        trace: Trace,
        capacity: int,
        *,
        count_from: int,
        report: Callable[[int], object],
    ) -> Mapping[str, Any]:
        """Replay a trace at any capacity."""
        simulator = ScoredSimulator(
            self.history(capacity),
            capacity,
            self.scorer(capacity),
            candidates=CANDIDATES,
            victims=VICTIMS,
            count_from=count_from,
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

"""The trained `recmg-paper` policy: loads its directory, makes models for stores and simulator."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.directory import LoadedPolicy, checking
from tieralloc.policies.ids import IdSpace
from tieralloc.policies.recmg_paper import decisions
from tieralloc.policies.recmg_paper.decisions import Inputs, decide_keep, decide_prefetches
from tieralloc.policies.recmg_paper.models import CHUNK

from tieralloc._bindings import ExternalModel
from tieralloc._bindings.limits import MAX_EVICTION_SPEED
from tieralloc._common.torch import on_one_thread, torch
from tieralloc.policy.directory import PolicyDirectory, read_policy
from tieralloc.policy.scripted import load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

POLICY = "recmg-paper"


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a capacity, and their eviction speed."""

    caching: torch.nn.Module
    prefetch: torch.nn.Module
    eviction_speed: int


class PaperPolicy(LoadedPolicy):
    """The trained `recmg-paper` policy, as `load` returns it; `models` are by capacity in rows."""

    def __init__(
        self, name: str, directory: PolicyDirectory, space: IdSpace, models: dict[int, Models]
    ) -> None:
        super().__init__(name, directory)
        self._space = space
        self._models = models

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = POLICY) -> PaperPolicy:
        """Load a policy directory that `tieralloc train --policy recmg-paper` wrote.

        Trust and errors as for `tieralloc.policies.recmg.policy.RecmgPolicy.load`.
        """
        directory = read_policy(path)
        directory.check_fits(POLICY, decisions.FEATURES)
        settings = directory.manifest.settings
        models = {}
        with checking(directory):
            space = IdSpace(_parse_order(directory))
            if settings["chunk"] != CHUNK:
                raise ValueError(
                    f"chunk must be {CHUNK}, got {settings['chunk']}; train the policy again"
                )
            for capacity in directory.manifest.capacities:
                rows = capacity.fast_rows
                if rows < 1:
                    raise ValueError(f"capacities must have at least 1 row, got {rows}")
                models[rows] = Models(
                    load_module(directory.models[f"caching-{rows}"], f"caching-{rows}"),
                    load_module(directory.models[f"prefetch-{rows}"], f"prefetch-{rows}"),
                    _parse_speed(settings["eviction_speeds"][str(rows)]),
                )
            if not models:
                raise ValueError("capacities must not be empty")
        return cls(name, directory, space, models)

    @property
    def rows(self) -> int:
        """Number of rows of all tables."""
        return len(self._space.order)

    def models(self, capacity: int) -> Models:
        """Return the models trained for the nearest capacity, by the ratio of the capacities."""
        trained = min(self._models, key=lambda rows: abs(math.log(rows / capacity)))
        return self._models[trained]

    @property
    def table_starts(self) -> NDArray[np.int64]:
        """First row of each table, then the number of all rows, (tables + 1,) int64."""
        sizes = [rows for _, rows in self.directory.manifest.tables]
        return np.cumsum([0, *sizes], dtype=np.int64)

    def decide(
        self, models: Models, accesses: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Return the results of `decide_keep` and `decide_prefetches` for accesses."""
        inputs = Inputs.of(accesses, self.table_starts[:-1], self._space)
        keep = decide_keep(models.caching, inputs)
        return keep, decide_prefetches(models.prefetch, inputs, self._space)

    def model_for(
        self, fast_rows: int, accesses: NDArray[np.uint64] | None = None
    ) -> ExternalModel:
        """Return the model of the capacity nearest to a fast tier.

        Decisions on known future accesses are computed at once, in batches.
        """
        models = self.models(fast_rows)
        decide = on_one_thread(partial(self.decide, models))
        return decisions.external_model(
            decide if accesses is None else decisions.precomputed(*decide(accesses)),
            models.eviction_speed,
            table_starts=self.table_starts,
            nbytes=self._space.order.nbytes + self._space.positions.nbytes,
        )


def _parse_order(directory: PolicyDirectory) -> NDArray[np.uint64]:
    order = directory.arrays["order"]
    rows = sum(rows for _, rows in directory.manifest.tables)
    # The sizes first: the manifest may declare any number of rows.
    if order.shape != (rows,) or not np.array_equal(np.sort(order), np.arange(rows)):
        raise ValueError(f"order must hold each of {rows} rows once, got shape {order.shape}")
    if order.dtype.kind not in "iu":
        raise ValueError(f"order must be integers, got {order.dtype}")
    return order


def _parse_speed(speed: Any) -> int:
    if not isinstance(speed, int) or not 0 <= speed <= MAX_EVICTION_SPEED:
        raise ValueError(
            f"eviction_speeds must be integers from 0 to {MAX_EVICTION_SPEED}, got {speed!r}"
        )
    return speed

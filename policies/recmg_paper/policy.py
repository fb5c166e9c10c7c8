"""The trained `recmg-paper` policy: loads its directory, makes models for stores and simulator."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from tieralloc.policies.ids import IdSpace
from tieralloc.policies.recmg_paper import decisions
from tieralloc.policies.recmg_paper.decisions import Inputs, decide_keep, decide_prefetches
from tieralloc.policies.recmg_paper.models import CHUNK

from tieralloc._bindings import ExternalModel
from tieralloc._common.torch import on_one_thread, torch
from tieralloc.policy.directory import PolicyDirectory, read_policy
from tieralloc.policy.scripted import load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

POLICY = "recmg-paper"


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a capacity, and their eviction speed."""

    caching: torch.nn.Module
    prefetch: torch.nn.Module
    eviction_speed: int


class PaperPolicy:
    """The trained `recmg-paper` policy, as `load` returns it.

    Parameters
    ----------
    name : str
        Name in records.
    directory : PolicyDirectory
        The directory it was loaded from.
    space : IdSpace
        Order of all rows.
    models : dict of int to Models
        Models by their capacity in rows.
    """

    def __init__(
        self, name: str, directory: PolicyDirectory, space: IdSpace, models: dict[int, Models]
    ) -> None:
        self.name = name
        self.directory = directory
        self._space = space
        self._models = models

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = POLICY) -> PaperPolicy:
        """Load a policy directory that `tieralloc train --policy recmg-paper` wrote.

        Loading runs code of the directory: load only policies that you trust.

        Raises
        ------
        ValueError
            If the directory holds another policy, other features, or damaged files.
        OSError
            If the directory cannot be read.
        """
        directory = read_policy(path)
        directory.check_fits(POLICY, decisions.FEATURES)
        settings = directory.manifest.settings
        models = {}
        try:
            space = IdSpace(directory.arrays["order"])
            if settings["chunk"] != CHUNK:
                raise ValueError(
                    f"{directory.path}: invalid {POLICY} policy: chunk: expected {CHUNK}, got"
                    f" {settings['chunk']}; train the policy again"
                )
            for capacity in directory.manifest.capacities:
                rows = capacity.fast_rows
                models[rows] = Models(
                    load_module(directory.models[f"caching-{rows}"], f"caching-{rows}"),
                    load_module(directory.models[f"prefetch-{rows}"], f"prefetch-{rows}"),
                    int(settings["eviction_speeds"][str(rows)]),
                )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{directory.path}: invalid {POLICY} policy: {error!r}") from error
        if not models:
            raise ValueError(
                f"{directory.path}: invalid {POLICY} policy: expected one or more capacities, got"
                " none"
            )
        rows = sum(rows for _, rows in directory.manifest.tables)
        if not np.array_equal(np.sort(space.order), np.arange(rows)):
            raise ValueError(
                f"{directory.path}: invalid {POLICY} policy: array 'order': expected each of"
                f" {rows} rows once, got {len(space.order)} entries"
            )
        return cls(name, directory, space, models)

    def check(self, trace: Trace) -> None:
        """Raise ValueError if the tables of a trace differ from those of the training trace."""
        self.directory.check_tables(
            list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
        )

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

        Parameters
        ----------
        fast_rows : int
            Rows of the fast tier.
        accesses : (n,) uint64, optional
            All future accesses, if known. Decisions on them are then computed at once, in batches.
        """
        models = self.models(fast_rows)
        decide = on_one_thread(partial(self.decide, models))
        return decisions.external_model(
            decide if accesses is None else decisions.precomputed(*decide(accesses)),
            models.eviction_speed,
            table_starts=self.table_starts,
            nbytes=self._space.order.nbytes + self._space.positions.nbytes,
        )

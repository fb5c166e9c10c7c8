"""The trained policy, read from its directory, simulated and served."""

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
    """The models of a capacity, and the eviction speed that goes with them."""

    caching: torch.nn.Module
    prefetch: torch.nn.Module
    eviction_speed: int


class PaperPolicy:
    """What the paper's models decide, and its simulation; made by `load`.

    Parameters
    ----------
    name : str
        What records call it.
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
        """Read a directory that `tieralloc train --policy recmg-paper` made.

        Its models are programs: load those only whose maker you trust.

        Raises
        ------
        ValueError
            Where it holds no such policy, one of other features, or a damaged one.
        OSError
            Where it cannot be read.
        """
        directory = read_policy(path)
        directory.check_fits(POLICY, decisions.FEATURES)
        settings = directory.manifest.settings
        models = {}
        try:
            space = IdSpace(directory.arrays["order"])
            if settings["chunk"] != CHUNK:
                raise ValueError(
                    f"{directory.path} is for chunks of {settings['chunk']} accesses, expected"
                    f" {CHUNK}: train it anew"
                )
            for capacity in directory.manifest.capacities:
                rows = capacity.fast_rows
                models[rows] = Models(
                    load_module(directory.models[f"caching-{rows}"], f"caching-{rows}"),
                    load_module(directory.models[f"prefetch-{rows}"], f"prefetch-{rows}"),
                    int(settings["eviction_speeds"][str(rows)]),
                )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{directory.path} is no sound {POLICY}: {error!r}") from error
        if not models:
            raise ValueError(f"{directory.path} was trained for no capacity")
        rows = sum(rows for _, rows in directory.manifest.tables)
        if not np.array_equal(np.sort(space.order), np.arange(rows)):
            raise ValueError(f"{directory.path} has no order of {rows} rows")
        return cls(name, directory, space, models)

    def check(self, trace: Trace) -> None:
        """Refuse a trace of other tables than those trained on, with a ValueError."""
        self.directory.check_tables(
            list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
        )

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return len(self._space.order)

    def models(self, capacity: int) -> Models:
        """Return the models of the capacity nearest to this one."""
        trained = min(self._models, key=lambda rows: abs(math.log(rows / capacity)))
        return self._models[trained]

    @property
    def table_starts(self) -> NDArray[np.int64]:
        """First row of each table, and the number of all rows; (tables + 1,)."""
        sizes = [rows for _, rows in self.directory.manifest.tables]
        return np.cumsum([0, *sizes], dtype=np.int64)

    def decide(
        self, models: Models, accesses: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Compute the decisions of models, as `decide_keep` and `decide_prefetches` do."""
        inputs = Inputs.of(accesses, self.table_starts[:-1], self._space)
        keep = decide_keep(models.caching, inputs)
        return keep, decide_prefetches(models.prefetch, inputs, self._space)

    def model_for(
        self, fast_rows: int, accesses: NDArray[np.uint64] | None = None
    ) -> ExternalModel:
        """Return what a store runs: the models of the capacity nearest to this one.

        Parameters
        ----------
        fast_rows : int
            Rows of the fast tier.
        accesses : (n,) uint64, optional
            All that it will observe, if known: the models decide on many chunks at a time then.
        """
        models = self.models(fast_rows)
        decide = on_one_thread(partial(self.decide, models))
        return decisions.external_model(
            decide if accesses is None else decisions.known(*decide(accesses)),
            models.eviction_speed,
            table_starts=self.table_starts,
            nbytes=self._space.order.nbytes + self._space.positions.nbytes,
        )

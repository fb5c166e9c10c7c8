"""Lookups, the checked arguments of modules' calls; several are served as one call of the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tieralloc._common.held_core import HeldCore
from tieralloc.nn._tensors import Bags, empty_rows

if TYPE_CHECKING:
    from tieralloc.store import TieredStore

Accesses = str  # "recorded", "unrecorded" or "only_recorded"


@dataclass(eq=False, slots=True)
class Lookup:
    """A call on one table, or on several, table by table.

    Attributes
    ----------
    positions : sequence of int
        Of the tables in the store.
    bags : Bags
        Without offsets: rows to copy.
    shape, dtype
        Of the result of the store.
    sources : tuple of Tensor or None
        The tensors whose memory `bags` refers to.
    """

    store: TieredStore
    positions: Sequence[int]
    bags: Bags
    mode: str
    paddings: Sequence[int] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    sources: tuple[Tensor | None, ...]

    @property
    def num_samples(self) -> int:
        """Samples of the request: bags of a table, or the first dimension of rows to copy."""
        if self.bags.offsets is not None:
            return self.bags.num_bags // len(self.positions)
        return self.shape[0] if len(self.shape) > 1 else 1

    def request(self, out: Any) -> tuple[Any, ...]:
        """Return the arguments of the core's call."""
        bags = self.bags
        if bags.offsets is None:
            out = out.reshape(bags.indices.size, self.shape[-1])
        return (
            self.positions,
            self.paddings,
            bags.indices,
            bags.offsets,
            bags.include_last_offset,
            self.mode,
            bags.weights,
            out,
        )

    def sampled(self) -> Lookup:
        """Return a lookup of the same rows with a bag per sample, on memory of its own."""
        bags, samples = self.bags, self.num_samples
        indices = bags.indices.copy()
        if bags.offsets is None:
            offsets = np.arange(samples + 1) * (indices.size // max(1, samples))
            bags = Bags(indices, offsets, include_last_offset=True)
        else:
            bags = Bags(indices, bags.offsets.copy(), None, bags.include_last_offset)
        return replace(self, bags=bags, mode="sum", sources=())

    def segments(self) -> list[tuple[int, Any]]:
        """Return the position and the indices of each table."""
        indices, offsets = self.bags.indices, self.bags.offsets
        if indices.size == 0 or self.num_samples == 0:
            return []
        if len(self.positions) == 1:
            return [(self.positions[0], indices)]
        starts = offsets[: self.bags.num_bags : self.num_samples]
        return list(zip(self.positions, np.split(indices, starts[1:]), strict=True))


def serve(
    lookups: Sequence[Lookup], accesses: Accesses = "recorded", held: HeldCore | None = None
) -> list[Tensor]:
    """Return the results of lookups in one store, which fetches their misses together.

    `held`: the version of the store's file; by default the one that serves.
    """
    results = [empty_rows(lookup.shape, lookup.dtype) for lookup in lookups]
    requests = [lookup.request(out) for lookup, (_, out) in zip(lookups, results, strict=True)]
    store = lookups[0].store
    with HeldCore(store) if held is None else nullcontext(held) as used:
        outside = used.core.embedding_bags(requests, store._bounds, accesses)
    if outside:
        store._warn_out_of_range(outside)
    return [result for result, _ in results]


def record(lookups: Sequence[Lookup]) -> None:
    """Record the accesses of `sampled` lookups in one store; equally many samples are shared."""
    store = lookups[0].store
    ordered = sorted(lookups, key=lambda lookup: lookup.num_samples)
    requests = [lookup.request(None) for lookup in ordered]
    store._core.embedding_bags(requests, store._bounds, "only_recorded")


def prefetch(lookups: Sequence[Lookup]) -> int:
    """Prefetch the rows of lookups in one store; return the number of queued rows."""
    segments = [segment for lookup in lookups for segment in lookup.segments()]
    if not segments:
        return 0
    positions, indices = zip(*segments, strict=True)
    offsets = np.cumsum([0, *(len(rows) for rows in indices)])
    store = lookups[0].store
    return store._core.prefetch(positions, np.concatenate(indices), offsets, True, store._bounds)


def by_store(lookups: Sequence[Lookup]) -> list[list[Lookup]]:
    """Return the lookups of each store, in order."""
    groups: dict[int, list[Lookup]] = {}
    for lookup in lookups:
        groups.setdefault(id(lookup.store), []).append(lookup)
    return list(groups.values())

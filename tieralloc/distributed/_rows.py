"""Unpooled vectors: rows looked up for all ranks, and sent back by SequenceEmbeddingsAllToAll.

The number of each index in its batch travels with the routing in the place of a weight, and shows
where its row belongs in the result. Indices of replicated tables do not travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed.dist_data import SequenceEmbeddingsAllToAll
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor

from tieralloc.distributed._exchange import Received
from tieralloc.distributed._ranks import Ranks
from tieralloc.distributed._shards import Column, local_columns, result_names
from tieralloc.nn._embeddings import TieredEmbedding
from tieralloc.nn._lookups import serve
from tieralloc.table import Table


class RowVectors:
    """The lookups of this rank, and the exchange of their rows; arguments as of PooledVectors."""

    def __init__(
        self,
        columns: Sequence[Column],
        local: Sequence[Column],
        tables: Mapping[str, Table],
        ranks: Ranks,
    ) -> None:
        dims = {column.table.embedding_dim for column in columns}
        if len(dims) != 1:
            raise ValueError(f"tables: expected one embedding dim, got {sorted(dims)}")
        self._dim = dims.pop()
        self._ranks = ranks
        self._names = result_names(columns)
        self._modules = [_module(tables[column.table.name]) for column in local]
        replicated = [column for column in columns if column.table.is_replicated]
        self._places = [columns.index(column) for column in replicated]
        self._replicated = [_module(tables[column.table.name]) for column in replicated]
        counts = [len(local_columns(columns, rank)) for rank in range(ranks.size)]
        self._all_to_all = SequenceEmbeddingsAllToAll(ranks.group, counts)

    def numbered(self, selected: Any) -> Any:
        """Return a batch with the number of each index as its weight."""
        return _weighted(selected, torch.arange(len(selected.values()), dtype=torch.float64))

    def unnumbered(self, routed: Any) -> Any:
        """Return a batch without weights."""
        return _weighted(routed, None)

    def begin(self, received: Received, selected: Any, routed: Any) -> Any:
        """Look up the rows of all ranks and begin to send them."""
        features = received.features
        rows = self._look_up(self._modules, _by_feature(features.values(), features))
        with self._ranks.collective():
            sending = self._all_to_all(
                torch.cat(rows) if rows else torch.empty(0, self._dim),
                lengths=features.lengths().view(len(self._modules), features.stride()),
                input_splits=received.sent_lengths,
                output_splits=received.received_lengths,
                batch_size_per_rank=received.batch_sizes,
                sparse_features_recat=received.order,
            )
        own = [_by_feature(selected.values(), selected)[place] for place in self._places]
        return sending, self._look_up(self._replicated, own)

    def _look_up(
        self, modules: Sequence[TieredEmbedding], indices: Sequence[Tensor]
    ) -> list[Tensor]:
        lookups = [module.plan(part)[0][1] for module, part in zip(modules, indices, strict=True)]
        return [rows.float() for rows in serve(lookups)] if lookups else []

    def end(self, sending: Any, selected: Any, routed: Any) -> dict[str, Any]:
        """Return the rows of this rank's indices."""
        awaited, own = sending
        with self._ranks.collective():
            arrived = awaited.wait().view(-1, self._dim)
        rows = torch.empty(len(selected.values()), self._dim)
        if len(rows):
            rows[routed.weights().long()] = arrived
            numbers = _by_feature(selected.weights(), selected)
            for place, part in zip(self._places, own, strict=True):
                rows[numbers[place].long()] = part
        lengths = selected.lengths().view(len(self._names), -1)
        parts = _by_feature(rows, selected)
        return {
            name: JaggedTensor(values=part, lengths=counts)
            for name, part, counts in zip(self._names, parts, lengths, strict=True)
        }


def _by_feature(values: Tensor, features: Any) -> Sequence[Tensor]:
    """Return values per index by feature."""
    parts: Sequence[Tensor] = torch.split(values, features.length_per_key())
    return parts


def _module(table: Table) -> TieredEmbedding:
    return TieredEmbedding(
        table.num_embeddings, table.embedding_dim, store=table.store, name=table.name
    )


def _weighted(features: Any, weights: Tensor | None) -> Any:
    return KeyedJaggedTensor(
        keys=features.keys(),
        values=features.values(),
        weights=weights,
        lengths=features.lengths(),
        stride=features.stride(),
    )

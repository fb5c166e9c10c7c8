"""Pooled vectors: looked up for all ranks, and sent to the ranks of their samples by torchrec.

One PooledEmbeddingsAllToAll carries all columns of a rank, in the dtype of the unsharded module. A
column whose rows are on several ranks arrives as a sum from each: the rank of the sample adds them
in float32, in row order, and divides a mean by the length of the bag. A reduce-scatter would add
them on the way, but gloo's is an all-reduce: twice the bytes, and another collective. Columns of
replicated tables do not travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed.dist_data import PooledEmbeddingsAllToAll
from torchrec.sparse.jagged_tensor import KeyedTensor

from tieralloc._common.values import DECODED
from tieralloc.distributed._exchange import Received
from tieralloc.distributed._ranks import Ranks
from tieralloc.distributed._shards import Column, local_columns, result_names
from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.table import Table


class PooledVectors:
    """The lookups of this rank, and the exchange of their results.

    Parameters
    ----------
    columns : sequence of Column
        In the order of the result.
    local : sequence of Column
        With rows on this rank, in the order of the exchange.
    tables : mapping of str to Table
        This rank's shards.
    ranks : Ranks
    """

    def __init__(
        self,
        columns: Sequence[Column],
        local: Sequence[Column],
        tables: Mapping[str, Table],
        ranks: Ranks,
    ) -> None:
        self._columns, self._ranks = columns, ranks
        self.names = result_names(columns)
        self.dims = [column.table.embedding_dim for column in columns]
        self._dtype = _common_dtype(columns)
        self._pool = _Pool(local, tables, self._dtype)
        replicated = [column for column in columns if column.table.is_replicated]
        replicated.sort(key=lambda column: column.table.mode)  # means first
        self._replicated = _Pool(replicated, tables, self._dtype)
        self._places = [columns.index(column) for column in replicated]
        sent = [local_columns(columns, rank) for rank in range(ranks.size)]
        arriving = [column for part in [*sent, replicated] for column in part]
        self._dims_of_pieces = [column.table.embedding_dim for column in arriving]
        self._pieces = [
            [place for place, each in enumerate(arriving) if each is column] for column in columns
        ]
        self._all_to_all = PooledEmbeddingsAllToAll(ranks.group, [_dim(part) for part in sent])

    def begin(self, received: Received, selected: Any, routed: Any) -> tuple[Any, Tensor | None]:
        """Look up the rows of all ranks and begin to send their vectors."""
        pooled = self._pool.serve(received.features)
        with self._ranks.collective():
            sending = self._all_to_all(pooled, received.batch_sizes)
        if not self._places:
            return sending, None
        return sending, self._replicated.serve(selected.permute(self._places))

    def end(self, sending: tuple[Any, Tensor | None], selected: Any, routed: Any) -> Any:
        """Return the vectors of this rank's samples."""
        awaited, own = sending
        with self._ranks.collective():
            arrived = awaited.wait()
        if own is not None:
            arrived = torch.cat([arrived, own], dim=1)
        arrived = arrived.float()
        if self._pieces != [[place] for place in range(len(self._columns))]:
            arrived = torch.cat(self._ordered(arrived, selected), dim=1)
        return KeyedTensor(keys=self.names, length_per_key=self.dims, values=arrived)

    def _ordered(self, arrived: Tensor, selected: Any) -> list[Tensor]:
        """Return the columns in order, each the sum of its pieces."""
        pieces = torch.split(arrived, self._dims_of_pieces, dim=1)
        lengths = selected.lengths().view(len(self._columns), -1)
        ordered = []
        for column, places, counts in zip(self._columns, self._pieces, lengths, strict=True):
            total = pieces[places[0]]
            for place in places[1:]:
                total = total + pieces[place]
            if len(places) > 1 and column.table.mode == "mean":
                total = total / counts.clamp(min=1).unsqueeze(1)
            ordered.append(total)
        return ordered


class _Pool:
    """Lookups of columns of this rank's tables, those pooled as mean before the others."""

    def __init__(
        self, columns: Sequence[Column], tables: Mapping[str, Table], dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        self._num_means = sum(
            column.table.mode == "mean" and (column.table.is_whole or column.table.is_replicated)
            for column in columns
        )
        parts = ((columns[: self._num_means], "mean"), (columns[self._num_means :], "sum"))
        self._lookups = [_collection(part, tables, mode, dtype) for part, mode in parts]

    def serve(self, features: Any) -> Tensor:
        """Return the pooled vectors of features, which are those of the columns in order."""
        values, offsets, weights = features.values(), features.offsets(), features.weights_or_none()
        bags = self._num_means * features.stride()
        begin = int(offsets[bags])
        spans = (
            (values[:begin], offsets[: bags + 1], None if weights is None else weights[:begin]),
            (values[begin:], offsets[bags:] - begin, None if weights is None else weights[begin:]),
        )
        results = [
            lookup.embedding_bag(*span, include_last_offset=True)
            for lookup, span in zip(self._lookups, spans, strict=True)
            if lookup is not None
        ]
        if not results:
            return torch.empty(features.stride(), 0, dtype=self._dtype)
        return results[0] if len(results) == 1 else torch.cat(results, dim=1)


def _dim(columns: Any) -> int:
    return sum(column.table.embedding_dim for column in columns)


def _common_dtype(columns: Sequence[Column]) -> torch.dtype:
    """Return the dtype of the unsharded collection: that of all tables, or float32."""
    dtypes = {"float32" if c.table.dtype in DECODED else c.table.dtype for c in columns}
    return getattr(torch, dtypes.pop()) if len(dtypes) == 1 else torch.float32


def _collection(
    columns: Sequence[Column], tables: Mapping[str, Table], mode: str, dtype: torch.dtype
) -> TieredEmbeddingBagCollection | None:
    """Return the module that serves columns, which are ordered by table."""
    features: dict[str, list[str]] = {}
    for column in columns:
        features.setdefault(column.table.name, []).append(column.feature)
    if not features:
        return None
    collection = TieredEmbeddingBagCollection(
        {name: tables[name] for name in features},
        feature_names=list(features.values()),
        mode=mode,
    )
    return collection.to(dtype)

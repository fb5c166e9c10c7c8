"""Pooled vectors: looked up for all ranks, and sent to the ranks of their samples by torchrec.

Columns of whole tables travel by PooledEmbeddingsAllToAll in the dtype of the unsharded module.
Columns of tables whose rows are on several ranks are sums of parts: PooledEmbeddingsReduceScatter
adds them in float32, and the rank of the sample divides a mean by the length of the bag. Columns of
replicated tables do not travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchrec.distributed.dist_data import (
    PooledEmbeddingsAllToAll,
    PooledEmbeddingsReduceScatter,
)
from torchrec.distributed.types import NoWait
from torchrec.sparse.jagged_tensor import KeyedTensor

from tieralloc._common.values import QUANTISED
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
        self._whole_dim = _dim(column for column in local if column.table.is_whole)
        replicated = [column for column in columns if column.table.is_replicated]
        replicated.sort(key=lambda column: column.table.mode)  # means first
        self._replicated = _Pool(replicated, tables, self._dtype)
        self._places = [columns.index(column) for column in replicated]
        self._split = [c for c in columns if not (c.table.is_whole or c.table.is_replicated)]
        self._split_dim = _dim(self._split)
        owned = [torch.full((c.table.embedding_dim,), c in local) for c in self._split]
        self._split_places = torch.cat(owned).nonzero().flatten() if owned else torch.empty(0)
        wholes = [
            [column for column in local_columns(columns, rank) if column.table.is_whole]
            for rank in range(ranks.size)
        ]
        arriving = [[column for part in wholes for column in part], self._split, replicated]
        self._arriving_dims = [[c.table.embedding_dim for c in part] for part in arriving if part]
        flat = [column for part in arriving for column in part]
        self._order = [flat.index(column) for column in columns]
        self._all_to_all = (
            PooledEmbeddingsAllToAll(ranks.group, [_dim(part) for part in wholes])
            if any(wholes)
            else None
        )
        self._reduce_scatter = PooledEmbeddingsReduceScatter(ranks.group) if self._split else None

    def begin(self, received: Received, selected: Any, routed: Any) -> list[Any]:
        """Look up the rows of all ranks and begin to send their vectors."""
        pooled = self._pool.serve(received.features)
        whole, parts = pooled[:, : self._whole_dim], pooled[:, self._whole_dim :]
        sizes = received.batch_sizes
        sending = []
        with self._ranks.collective():
            if self._all_to_all is not None:
                sending.append(self._all_to_all(whole.contiguous(), sizes))
            if self._reduce_scatter is not None:
                sending.append(self._reduce_scatter(self._blocks(parts.float(), sizes)))
        if self._places:
            sending.append(NoWait(self._replicated.serve(selected.permute(self._places))))
        return sending

    def _blocks(self, parts: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the sums of this rank: all split columns, equally many samples of each rank."""
        if len(self._split_places) < self._split_dim:
            filled = parts.new_zeros(len(parts), self._split_dim)
            filled[:, self._split_places] = parts
            parts = filled
        if len(set(sizes)) > 1:  # gloo scatters equal blocks only
            blocks = torch.split(parts, list(sizes))
            parts = torch.cat([pad(block, (0, 0, 0, max(sizes) - len(block))) for block in blocks])
        return parts.contiguous()

    def end(self, sending: Sequence[Any], selected: Any, routed: Any) -> Any:
        """Return the vectors of this rank's samples."""
        with self._ranks.collective():
            arrived = [each.wait() for each in sending]
        samples = selected.stride()
        arrived = [each[:samples].float() for each in arrived]
        pieces = [
            piece
            for each, dims in zip(arrived, self._arriving_dims, strict=True)
            for piece in torch.split(each, dims, dim=1)
        ]
        ordered = [pieces[place] for place in self._order]
        self._divide_means(ordered, selected)
        if len(arrived) == 1 and self._order == list(range(len(ordered))):
            values = arrived[0]
        else:
            values = torch.cat(ordered, dim=1)
        return KeyedTensor(keys=self.names, length_per_key=self.dims, values=values)

    def _divide_means(self, pieces: Sequence[Tensor], selected: Any) -> None:
        """Divide the sums of split tables in place, by the lengths of the bags."""
        lengths = selected.lengths().view(len(self._columns), -1)
        for column, piece, counts in zip(self._columns, pieces, lengths, strict=True):
            if column in self._split and column.table.mode == "mean":
                piece.div_(counts.clamp(min=1).unsqueeze(1))


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
    dtypes = {"float32" if c.table.dtype in QUANTISED else c.table.dtype for c in columns}
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

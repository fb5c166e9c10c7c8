"""The exchange of indices by torchrec: each index to the rank of its row.

The indices that a rank sends are ordered by rank, and within a rank as `local_columns` are.
FBGEMM's bucketising splits the indices of a column by range and subtracts the start of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed.dist_data import KJTAllToAll
from torchrec.distributed.embedding_sharding import bucketize_kjt_before_all2all
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from tieralloc.distributed._ranks import Ranks
from tieralloc.distributed._shards import Column, ShardedTable, local_columns


@dataclass
class Received:
    """Indices of all ranks for this rank's shards, feature-major, by rank within a feature."""

    features: Any  # KeyedJaggedTensor
    batch_sizes: list[int]  # of each rank
    sent_lengths: list[int]  # indices that this rank sent to each
    received_lengths: list[int]
    order: Tensor | None  # torchrec's permutation of the bags on arrival


class IndexExchange:
    """Sends the indices of a batch to the ranks of their rows.

    Parameters
    ----------
    columns : sequence of Column
    is_weighted : bool
        Whether weights travel with the indices.
    ranks : Ranks
    """

    def __init__(self, columns: Sequence[Column], is_weighted: bool, ranks: Ranks) -> None:
        self._columns = columns
        self._is_weighted = is_weighted
        self._ranks = ranks
        self._limits = torch.tensor([column.table.num_embeddings for column in columns])
        places = [i for i, column in enumerate(columns) if not column.table.is_replicated]
        self._places = places
        self._sent = sent = [columns[place] for place in places]
        self._is_split = any(not column.table.is_whole for column in sent)
        self._num_buckets = max(len(column.table.shards) for column in sent)
        self._block_sizes = self._limits[places]
        self._ranges = [_ranges(column.table, self._num_buckets) for column in sent]
        self._order: list[int] = []  # of the sent keys: bucket * columns + column
        splits = []
        for rank in range(ranks.size):
            local = local_columns(columns, rank)
            self._order += [self._place(column, rank) for column in local]
            splits.append(len(local))
        self._keys = [sent[place % len(sent)].feature for place in self._order]
        self._all_to_all = KJTAllToAll(ranks.group, splits)

    def _place(self, column: Column, rank: int) -> int:
        numbers = [shard.rank for shard in column.table.shards]
        return numbers.index(rank) * len(self._sent) + self._sent.index(column)

    def select(self, features: Any) -> Any:
        """Return the columns of a batch in order, checked, in the dtypes that all ranks send.

        KeyError for a missing feature, IndexError for a row out of range, ValueError for features
        with batch sizes of their own or without the weights.
        """
        if features.variable_stride_per_key() or features.inverse_indices_or_none() is not None:
            raise ValueError("features: expected one batch size, got one per feature")
        weights = features.weights_or_none() if self._is_weighted else None
        if self._is_weighted and weights is None:
            raise ValueError("features: expected weights, as the collection is weighted, got none")
        keys = features.keys()
        wanted = [column.feature for column in self._columns]
        if missing := [name for name in wanted if name not in keys]:
            raise KeyError(f"features: expected a feature {missing[0]!r}, got {keys}")
        plain = KeyedJaggedTensor(
            keys=keys,
            values=features.values().long(),
            weights=None if weights is None else weights.float(),
            lengths=features.lengths().int(),
            stride=features.stride(),
        )
        selected = plain if keys == wanted else plain.permute([keys.index(name) for name in wanted])
        self._check_rows(selected)
        return selected

    def _check_rows(self, selected: Any) -> None:
        values = selected.values()
        counts = torch.tensor(selected.length_per_key())
        limits = torch.repeat_interleave(self._limits, counts)
        outside = (values < 0) | (values >= limits)
        if outside.any():
            place = int(outside.nonzero()[0])
            number = int(torch.searchsorted(torch.cumsum(counts, 0), place, right=True))
            table = self._columns[number].table
            raise IndexError(
                f"features: not a row of table {table.name!r}; expected 0 to "
                f"{table.num_embeddings - 1}, got {int(values[place])}"
            )

    def empty(self) -> Any:
        """Return a batch without samples: a rank sends it in place of an invalid one."""
        return self._jagged([column.feature for column in self._columns])

    def _jagged(self, keys: Sequence[str]) -> Any:
        return KeyedJaggedTensor(
            keys=list(keys),
            values=torch.empty(0, dtype=torch.int64),
            weights=torch.empty(0) if self._is_weighted else None,
            lengths=torch.empty(0, dtype=torch.int32),
            stride=0,
        )

    def route(self, selected: Any) -> Any:
        """Return the indices of a batch ordered by rank, as rows of the shards."""
        if selected.stride() == 0:
            return self._jagged(self._keys)
        if len(self._sent) < len(self._columns):
            selected = selected.permute(self._places)
        if self._is_split:
            selected, _ = bucketize_kjt_before_all2all(
                selected,
                num_buckets=self._num_buckets,
                block_sizes=self._block_sizes,
                block_bucketize_row_pos=self._ranges,
            )
        if self._order == list(range(len(selected.keys()))):
            return selected
        return selected.permute(self._order)

    def send(self, routed: Any) -> Any:
        """Begin to send the indices; `receive` ends it."""
        with self._ranks.collective():
            return self._all_to_all(routed).wait()

    def receive(self, sending: Any) -> Received:
        """Return the indices of all ranks for this rank's shards."""
        with self._ranks.collective():
            features = sending.wait()
        return Received(
            features,
            sending._stride_per_rank,
            sending._input_splits["values"],
            sending._output_splits["values"],
            sending._recat,
        )


def _ranges(table: ShardedTable, buckets: int) -> Tensor:
    """Return the first row of each bucket, and the end of the last; unused ones are empty."""
    ends = [shard.last for shard in table.shards]
    return torch.tensor([0, *ends, *ends[-1:] * (buckets - len(ends))])

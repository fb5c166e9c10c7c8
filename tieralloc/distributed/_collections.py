"""torchrec's EmbeddingBagCollection and EmbeddingCollection over the ranks of a group.

Per batch, in this order on every rank:

    send the indices of the next batch               KJTAllToAll
    look up the rows of this batch for all ranks     one call of the store per pooling mode
    begin to send their vectors                      PooledEmbeddingsAllToAll
    receive the indices of the next batch, and prefetch their rows
    receive the vectors of this batch

`forward` is a stream of one batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tieralloc.distributed._local import Source, open_shards
from tieralloc.distributed._ranks import Ranks
from tieralloc.distributed._shards import Column, columns_of, local_columns, sharded_tables

if TYPE_CHECKING:
    from torchrec.distributed.types import ParameterSharding
    from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
    from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

    from tieralloc.distributed._exchange import Received
    from tieralloc.distributed._pooled import PooledVectors
    from tieralloc.distributed._rows import RowVectors
    from tieralloc.store import TieredStore

_TIMEOUT = 30.0


def _index_exchange() -> Any:
    # torchrec is imported here, so that the package and its documentation load without it.
    try:
        from tieralloc.distributed._exchange import IndexExchange
    except ImportError as error:
        raise ImportError(
            "tieralloc.distributed needs torchrec: pip install --no-deps torchrec fbgemm-gpu-cpu"
        ) from error
    return IndexExchange


@dataclass
class _Batch:
    """A batch whose indices travel."""

    selected: Any  # the columns of this rank's samples
    routed: Any  # the same, ordered by rank
    error: Exception | None  # of an invalid batch, which the rank sends as one without samples
    sending: Any
    received: Received | None = None


class _Sharded(nn.Module):
    """What both collections share: the shards of this rank, and the exchange."""

    _container: str

    def __init__(
        self,
        tables: Iterable[Any],
        plan: Mapping[str, Any],
        store: TieredStore,
        *,
        checkpoint: str | os.PathLike[str] | None,
        prefix: str,
        version: str,
        is_weighted: bool,
        group: Any,
        timeout: float,
    ) -> None:
        super().__init__()
        index_exchange = _index_exchange()
        ranks = Ranks(group, timeout)
        sharded = sharded_tables(tables, plan, ranks.size)
        source = None if checkpoint is None else Source(checkpoint, prefix, self._container)
        self.tables = open_shards(store, sharded, ranks, version, source)
        self._columns = columns_of(sharded)
        self._exchange = index_exchange(self._columns, is_weighted, ranks)
        local = local_columns(self._columns, ranks.rank)
        self._local_tables = [self.tables[column.table.name] for column in local]
        self._store = store
        self._vectors = self._make_vectors(local, ranks)

    def _make_vectors(self, local: Sequence[Column], ranks: Ranks) -> Any:
        raise NotImplementedError

    def stream(self, batches: Iterable[KeyedJaggedTensor]) -> Iterator[Any]:
        """Yield the results of batches, in order, with two batches in flight.

        The rows of a batch are prefetched as soon as its indices are known to their ranks, while
        the vectors of the batch before travel. All ranks must pass equally many batches.

        Parameters
        ----------
        batches : iterable of torchrec.KeyedJaggedTensor

        Yields
        ------
        object
            As `forward` returns it. For an invalid batch, ``next`` raises its error, and goes on
            with the next batch in the call after.
        """
        return _Stream(self, iter(batches))

    def _send(self, features: Any) -> _Batch:
        error = None
        with torch.no_grad():
            try:
                selected = self._select(features)
            except (KeyError, IndexError, ValueError) as problem:
                # The other ranks wait for this one's share of their batch.
                error, selected = problem, self._exchange.empty()
            routed = self._exchange.route(selected)
            return _Batch(selected, routed, error, self._exchange.send(self._without(routed)))

    def _select(self, features: Any) -> Any:
        return self._exchange.select(features)

    def _without(self, routed: Any) -> Any:
        """Return the part of a routed batch that travels."""
        return routed

    def _receive(self, batch: _Batch) -> Received:
        if batch.received is None:
            batch.received = self._exchange.receive(batch.sending)
        return batch.received

    def _prefetch(self, batch: _Batch) -> None:
        features = self._receive(batch).features
        if len(features.values()) and not self._store.closed:
            self._store.prefetch(
                features.values().numpy(), features.offsets().numpy(), self._local_tables
            )

    def _begin(self, batch: _Batch) -> Any:
        with torch.no_grad():
            return self._vectors.begin(self._receive(batch), batch.selected, batch.routed)

    def _end(self, batch: _Batch, vectors: Any) -> Any:
        with torch.no_grad():
            result = self._vectors.end(vectors, batch.selected, batch.routed)
        if batch.error is not None:
            raise batch.error
        return result


class _Stream:
    """The results of batches; an error of a batch does not end it."""

    def __init__(self, collection: _Sharded, batches: Iterator[Any]) -> None:
        self._collection = collection
        self._batches = batches
        self._batch = self._send_next()

    def _send_next(self) -> _Batch | None:
        features = next(self._batches, None)
        return None if features is None else self._collection._send(features)

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        batch, collection = self._batch, self._collection
        if batch is None:
            raise StopIteration
        collection._receive(batch)
        following = self._send_next()
        vectors = collection._begin(batch)
        if following is not None:
            collection._prefetch(following)
        self._batch = following
        return collection._end(batch, vectors)


class ShardedTieredEmbeddingBagCollection(_Sharded):
    """torchrec's sharded ``EmbeddingBagCollection`` with the shards of each rank in its store.

    Results equal those of the unsharded module: to rounding for tables whose rows are cut, bit for
    bit for others. All ranks construct the module and call it equally often, one thread at a time,
    as for every collective. A rank whose batch is invalid still serves the others, and raises then.

    Parameters
    ----------
    tables : iterable of torchrec.EmbeddingBagConfig
        The same on all ranks; pooling "sum" or "mean".
    plan : mapping of str to torchrec.ParameterSharding
        By table: table-wise, row-wise or table-row-wise, with the sharding spec; or data-parallel:
        each rank has all rows, and they do not travel. For example an
        ``EmbeddingModuleShardingPlan`` of torchrec. At most one range of a table per rank.
    store : TieredStore
        This rank's. Its tables are this rank's shards.
    checkpoint : path, optional
        Rows of a new store, as for `tieralloc.nn.convert`; each rank reads its own shards. A store
        with loaded shards is used as it is. Without a checkpoint the rows of a new store are zero;
        load them into `tables`.
    prefix : str
        Path of the collection in the checkpoint's model.
    version : str
        Version of the rows, recorded beside the file.
    is_weighted : bool
        Whether `forward` uses the weights of its features.
    group : torch.distributed.ProcessGroup, optional
        By default a new group of all ranks, on gloo.
    timeout : float
        Seconds that an exchange waits. A rank that dies or stalls is named by an error on the
        others within twice the timeout. A `group` has its own timeout of exchanges.

    Attributes
    ----------
    tables : dict of str to Table
        This rank's shards: rows of the table from the start of its range.
    embedding_names : list of str
        Keys of the result, as those of `tieralloc.nn.TieredEmbeddingBagCollection`.
    embedding_dims : list of int
        Columns of the result for each key.

    Raises
    ------
    RankError
        A ConnectionError on all ranks, if a rank refuses to start: its file is of another plan,
        version or rank, or its arguments are not those of rank 0.
    ValueError
        For an invalid plan or table.

    Examples
    --------
    >>> collection = ta.distributed.ShardedTieredEmbeddingBagCollection(
    ...     configs, plan, ta.TieredStore(f"rank{rank}.tier", fast_bytes="64MiB")
    ... )
    >>> collection(features).keys()
    ['user', 'item']
    """

    _container = "embedding_bags"

    def __init__(
        self,
        tables: Iterable[EmbeddingBagConfig],
        plan: Mapping[str, ParameterSharding],
        store: TieredStore,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        prefix: str = "",
        version: str = "",
        is_weighted: bool = False,
        group: Any = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        super().__init__(
            tables,
            plan,
            store,
            checkpoint=checkpoint,
            prefix=prefix,
            version=version,
            is_weighted=is_weighted,
            group=group,
            timeout=timeout,
        )
        self.embedding_names: list[str] = self._vectors.names
        self.embedding_dims: list[int] = self._vectors.dims

    def _make_vectors(self, local: Sequence[Column], ranks: Ranks) -> PooledVectors:
        from tieralloc.distributed._pooled import PooledVectors

        return PooledVectors(self._columns, local, self.tables, ranks)

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Return the pooled embeddings of this rank's samples.

        Parameters
        ----------
        features : torchrec.KeyedJaggedTensor
            The features in any order; features of other names are ignored. Ranks may have batches
            of different sizes.

        Returns
        -------
        torchrec.KeyedTensor
            (B, D) of float32: `embedding_names` with `embedding_dims` columns each.

        Raises
        ------
        RankError
            If another rank died or stalled. The module is of no use then; restart the group.
        KeyError, IndexError, ValueError
            For a missing feature, a row out of range, or features without weights or with batch
            sizes of their own. The other ranks get their results.
        """
        return next(self.stream([features]))


class ShardedTieredEmbeddingCollection(_Sharded):
    """torchrec's sharded ``EmbeddingCollection`` with the shards of each rank in its store.

    As `ShardedTieredEmbeddingBagCollection`, without pooling: results equal those of the unsharded
    module bit for bit.

    Parameters
    ----------
    tables : iterable of torchrec.EmbeddingConfig
        The same on all ranks, of one embedding dim.
    plan, store, checkpoint, prefix, version, group, timeout
        As for `ShardedTieredEmbeddingBagCollection`.

    Attributes
    ----------
    tables : dict of str to Table
        This rank's shards.

    Raises
    ------
    RankError, ValueError
        As for `ShardedTieredEmbeddingBagCollection`.
    """

    _container = "embeddings"

    def __init__(
        self,
        tables: Iterable[EmbeddingConfig],
        plan: Mapping[str, ParameterSharding],
        store: TieredStore,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        prefix: str = "",
        version: str = "",
        group: Any = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        super().__init__(
            tables,
            plan,
            store,
            checkpoint=checkpoint,
            prefix=prefix,
            version=version,
            is_weighted=False,
            group=group,
            timeout=timeout,
        )

    def _make_vectors(self, local: Sequence[Column], ranks: Ranks) -> RowVectors:
        from tieralloc.distributed._rows import RowVectors

        return RowVectors(self._columns, local, self.tables, ranks)

    def _select(self, features: Any) -> Any:
        return self._vectors.numbered(self._exchange.select(features))

    def _without(self, routed: Any) -> Any:
        return self._vectors.unnumbered(routed)

    def forward(self, features: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """Return the embeddings of this rank's indices, by feature.

        Parameters
        ----------
        features : torchrec.KeyedJaggedTensor

        Returns
        -------
        dict of str to torchrec.JaggedTensor
            By feature, or ``feature@table`` if several tables use the feature; the values are
            (nnz, embedding_dim) of float32.

        Raises
        ------
        RankError, KeyError, IndexError, ValueError
            As for `ShardedTieredEmbeddingBagCollection`.
        """
        return next(self.stream([features]))

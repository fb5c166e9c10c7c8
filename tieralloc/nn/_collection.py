"""torchrec's EmbeddingBagCollection on tables of a store: all tables in one call.

`forward` accepts every object with the methods of torchrec's KeyedJaggedTensor. torchrec itself is
imported only for its result type, in the first call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tieralloc.nn import _operators
from tieralloc.nn._attached import names_of
from tieralloc.nn._embeddings import TieredEmbeddingBag
from tieralloc.nn._lookups import Lookup
from tieralloc.nn._modules import TieredModule
from tieralloc.nn._tables import torch_dtype
from tieralloc.nn._tensors import (
    MODES,
    bag_tensors,
    check_bags,
    concatenate_bags,
    in_graph,
    run_eagerly,
    with_equal_offsets,
)
from tieralloc.nn._torchrec import (
    bag_configs,
    features_in_order,
    has_variable_batches,
    inverse_indices,
    is_jagged,
    keyed_tensor_type,
    select_features,
)
from tieralloc.operate.positions import paddings_of
from tieralloc.table import Table

if TYPE_CHECKING:
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor


class TieredEmbeddingBagCollection(TieredModule):
    """torchrec's ``EmbeddingBagCollection`` on tables of a store.

    One call pools the bags of all tables and fetches their misses as one batch. `forward` takes
    torchrec's tensors; `embedding_bag` takes plain ones and needs no torchrec.

    Parameters
    ----------
    tables : iterable of TieredEmbeddingBag or Table, or mapping of names to them
        All of one store, each once; for example the ``nn.ModuleList`` of a converted model. The
        names are those of the store's tables unless a mapping gives others.
    is_weighted : bool
        Whether `forward` uses the weights of its features.
    feature_names : sequence of str or sequences of str, optional
        For each table the name of its feature, or the names of its features if several features
        use the table. Default: the table's name.
    mode : {"sum", "mean", "max"}, optional
        Pooling mode. Default: the mode of the modules; required if all of `tables` are Tables.

    Attributes
    ----------
    embedding_bags : torch.nn.ModuleDict
        The modules on the tables, by table name.
    feature_names : list of str
        The features in the order of the result: table by table.
    embedding_names : list of str
        The keys of the result: the feature name, or ``feature@table`` if several tables use the
        feature.
    embedding_dims : list of int
        Columns of the result for each feature.
    mode : str
    dtype : torch.dtype
        Dtype of the result of `embedding_bag`: that of the tables if it is the same for all,
        otherwise float32; or the one of the last ``.to(dtype)``.

    Raises
    ------
    ValueError, TypeError
        For no tables, tables of several stores or modes, float64 tables together with others,
        or names that do not match the tables.

    Examples
    --------
    >>> from tieralloc import TieredStore
    >>> store = TieredStore("collection.tier", fast_bytes="4MiB")
    >>> tables = [store.create_table(name, 1000, 16) for name in ("user", "item")]
    >>> collection = TieredEmbeddingBagCollection(tables, mode="sum")
    >>> rows = torch.tensor([1, 2, 3, 4, 5])  # bags of users [1] and [2, 3], of items [4] and [5]
    >>> collection.embedding_bag(rows, torch.tensor([0, 1, 3, 4])).shape
    torch.Size([2, 32])
    """

    def __init__(
        self,
        tables: Iterable[TieredEmbeddingBag | Table] | Mapping[str, TieredEmbeddingBag | Table],
        is_weighted: bool = False,
        *,
        feature_names: Sequence[str | Sequence[str]] | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__()
        parts = _tables_by_name(tables)
        self.mode = _common_mode(mode, parts.values())
        bags = {name: _as_module(part, self.mode) for name, part in parts.items()}
        if len({id(bag.table.store) for bag in bags.values()}) != 1:
            raise ValueError(f"tables: expected tables of one store, got {list(parts.values())}")
        names = _features_by_table(feature_names, list(bags))
        self._store = next(iter(bags.values())).table.store
        self._names = names_of(self._store)
        self._is_weighted = is_weighted
        self._configs: list[Any] | None = None
        self.embedding_bags = nn.ModuleDict()
        # add_module would refuse table names with dots, and names such as "items".
        self.embedding_bags._modules.update(bags)
        self._feature_names = names
        self.feature_names = [feature for features in names for feature in features]
        uses = Counter(self.feature_names)
        self.embedding_names = [
            feature if uses[feature] == 1 else f"{feature}@{name}"
            for name, features in zip(bags, names, strict=True)
            for feature in features
        ]
        self._bags = [
            bag for bag, features in zip(bags.values(), names, strict=True) for _ in features
        ]
        self._tables = [bag.table for bag in self._bags]
        self.dtype = self._row_dtype = _common_dtype(self._tables)
        self._is_trainable = any(bag._is_trainable for bag in self._bags)
        self.embedding_dims = [table.embedding_dim for table in self._tables]
        paddings = [bag.padding_idx for bag in self._bags]
        self._positions = [table.position for table in self._tables]
        self._paddings = paddings_of(
            self._store,
            self._positions,
            paddings if any(row is not None for row in paddings) else None,
        )
        self._name_attributes()

    def forward(self, features: KeyedJaggedTensor, *others: object) -> KeyedTensor:
        """Return the pooled embeddings of the features, as torchrec's collection does.

        Parameters
        ----------
        features : torchrec.KeyedJaggedTensor, or an object with the same methods
            The features in any order; features of other names are ignored. Without copies if
            `features.keys()` equals `feature_names`.

        Returns
        -------
        torchrec.KeyedTensor
            (B, D): `embedding_names` with `embedding_dims` columns each. float32, or the dtype of
            the last ``.to(dtype)``.

        Raises
        ------
        ImportError
            If torchrec is not installed; `embedding_bag` does not need it.
        KeyError
            For a missing feature.
        IndexError, ValueError, TypeError, NotImplementedError, RuntimeError, OSError
            As for `TieredEmbeddingBag`.
        """
        if others or not is_jagged(features):
            kinds = ", ".join(type(argument).__name__ for argument in (features, *others))
            raise TypeError(
                f"features: expected one KeyedJaggedTensor, got {kinds}; pass tensors to "
                "embedding_bag(indices, offsets, per_sample_weights)"
            )
        if not in_graph():
            return self._forward(features)
        ordered = features_in_order(features, self.feature_names)
        if ordered is None or not self._is_operator():
            return run_eagerly(self._forward, features)
        weights = self._weights_of(ordered)
        pooled = self._in_graph(ordered.values(), ordered.offsets(), weights, True)
        return self._keyed(pooled)

    def _forward(self, features: Any) -> Any:
        planned = self.plan(features)
        pooled = [module._pool_lookup(lookup) for module, lookup in planned]
        inverse = inverse_indices(features)
        if inverse is not None:
            samples = dict(zip(inverse[0], inverse[1], strict=True))
            pooled = [
                part.index_select(0, samples[name])
                for name, part in zip(self.feature_names, pooled, strict=True)
            ]
        return self._keyed(pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1))

    def _keyed(self, values: Tensor) -> Any:
        dtype = self.dtype if self._is_cast else torch.float32  # as torchrec's
        return keyed_tensor_type()(
            keys=self.embedding_names, length_per_key=self.embedding_dims, values=values.to(dtype)
        )

    def _weights_of(self, features: Any) -> Tensor | None:
        if not self._is_weighted:
            return None
        weights: Tensor | None = features.weights_or_none()
        if weights is None:
            raise ValueError("features: expected weights, as the collection is weighted, got none")
        return weights

    def plan(self, features: Any) -> Sequence[tuple[TieredModule, Lookup]]:
        """Return the lookups of a call of `forward`: one, or one per feature if they differ."""
        weights = self._weights_of(features)
        if inverse_indices(features) is not None or has_variable_batches(features):
            selected = select_features(features, self.feature_names, weights)
            return [
                (bag, bag._lookup(*feature, True))
                for bag, feature in zip(self._bags, selected, strict=True)
            ]
        if list(features.keys()) == self.feature_names:
            lookup = self._lookup(features.values(), features.offsets(), weights, True)
        else:
            selected = select_features(features, self.feature_names, weights)
            rows, offsets, factors = zip(*selected, strict=True)
            lookup = self._lookup(rows, offsets, None if weights is None else factors, True)
        return [(self, lookup)]

    def embedding_bag(
        self,
        indices: Tensor | Sequence[Tensor],
        offsets: Tensor | Sequence[Tensor | None] | None = None,
        per_sample_weights: Tensor | Sequence[Tensor] | None = None,
        include_last_offset: bool = False,
    ) -> Tensor:
        """Return the pooled embeddings of all features; `split` separates them.

        The table-batched call of `TieredStore.embedding_bag`, on tensors.

        Parameters
        ----------
        indices : (nnz,) tensor of int32 or int64, or sequence of tensors
            The rows of all features, feature-major: all bags of the first feature, then all bags
            of the second, and so on. A sequence has one `input` of `TieredEmbeddingBag.forward`
            per feature; they are copied into one tensor.
        offsets : (F * B,) or (F * B + 1,) tensor of int32 or int64, or sequence of tensors
            Bag ``b`` of feature ``f`` is ``indices[offsets[f*B+b]:offsets[f*B+b+1]]``. For a
            sequence of `indices`, one tensor per feature, or None if each of the inputs has two
            dimensions.
        per_sample_weights : (nnz,) tensor, or sequence of tensors, optional
            Factors of the rows, of the collection's dtype (for 16-bit rows also float32); mode
            "sum" only.
        include_last_offset : bool
            Whether offsets include the end of the last bag.

        Returns
        -------
        (B, D) tensor
            D is the sum of `embedding_dims`.

        Raises
        ------
        IndexError, ValueError, TypeError, NotImplementedError, RuntimeError, OSError
            As for `TieredEmbeddingBag.forward`.
        """
        arguments = (indices, offsets, per_sample_weights, include_last_offset)
        if in_graph():
            if self._is_operator():
                return self._in_graph(*arguments)
            return run_eagerly(self._embedding_bag, *arguments)
        return self._embedding_bag(*arguments)

    def _embedding_bag(self, *arguments: Any) -> Tensor:
        return self._pool_lookup(self._lookup(*arguments))

    def _in_graph(
        self, indices: Any, offsets: Any, per_sample_weights: Any, include_last_offset: bool
    ) -> Tensor:
        parts = [
            bag_tensors(*part, **self._check_options(include_last_offset))
            for part in zip(*self._columns(indices, offsets, per_sample_weights), strict=True)
        ]
        parts, include_last_offset = with_equal_offsets(parts, include_last_offset)
        return self._graph_result(
            _operators.embedding_bag(
                [part.indices for part in parts],
                [part.offsets for part in parts],
                [part.weights for part in parts],
                store=self._store_name(),
                tables=[table.name for table in self._tables],
                dims=self.embedding_dims,
                paddings=self._paddings or [-1] * len(self._positions),
                mode=self.mode,
                include_last_offset=include_last_offset,
                dtype=self._result_dtype(),
                shares_request=self._shares_compiled(),
            )
        )

    def _columns(self, indices: Any, offsets: Any, weights: Any) -> tuple[Sequence[Any], ...]:
        """Return the indices, offsets and weights of each part of a call."""
        if not isinstance(indices, Tensor):
            return (
                self._per_feature(indices, "indices"),
                self._per_feature(offsets, "offsets"),
                self._per_feature(weights, "per_sample_weights"),
            )
        if indices.dim() != 1:
            raise ValueError(
                "indices: expected one dimension, or a sequence of tensors, one per feature; "
                f"got shape {tuple(indices.shape)}"
            )
        return (indices,), (offsets,), (weights,)

    def _lookup(
        self, indices: Any, offsets: Any, per_sample_weights: Any, include_last_offset: bool
    ) -> Lookup:
        columns = self._columns(indices, offsets, per_sample_weights)
        options = self._check_options(include_last_offset)
        parts = [check_bags(*part, **options) for part in zip(*columns, strict=True)]
        is_one = isinstance(indices, Tensor)
        bags = parts[0] if is_one else concatenate_bags(parts, self.feature_names)
        # The store raises ValueError if the bags do not divide evenly among the features.
        batch_size = bags.num_bags // len(self._tables)
        return Lookup(
            store=self._store,
            positions=self._positions,
            bags=bags,
            mode=self.mode,
            paddings=self._paddings,
            shape=(batch_size, sum(self.embedding_dims)),
            dtype=self._result_dtype(),
            sources=tuple(source for column in columns for source in column),
        )

    def _check_options(self, include_last_offset: bool) -> dict[str, Any]:
        return {
            "dtypes": (self._row_dtype, self.dtype),
            "mode": self.mode,
            "include_last_offset": include_last_offset,
            "name": "indices",
        }

    def _per_feature(self, argument: Any, name: str) -> Sequence[Any]:
        if argument is None:
            return [None] * len(self._tables)
        if len(argument) != len(self._tables):
            raise ValueError(
                f"{name}: expected {len(self._tables)} tensors, one per feature, got "
                f"{len(argument)}"
            )
        return list(argument)

    def split(self, result: Tensor) -> dict[str, Tensor]:
        """Return the features of a result as views.

        Parameters
        ----------
        result : (B, D) tensor
            A result of `embedding_bag`.

        Returns
        -------
        dict of str to (B, embedding_dim) tensor
            By `embedding_names`, in order.
        """
        parts = torch.split(result, self.embedding_dims, dim=1)
        return dict(zip(self.embedding_names, parts, strict=True))

    @property
    def device(self) -> torch.device:
        """The device of results: the CPU."""
        return torch.device("cpu")

    def is_weighted(self) -> bool:
        """Return whether `forward` uses the weights of its features."""
        return self._is_weighted

    def embedding_bag_configs(self) -> list[EmbeddingBagConfig]:
        """Return torchrec's configuration of each table; ValueError where torchrec has none.

        torchrec has no float64 tables and no mode "max".
        """
        if self._configs is None:
            self._configs = bag_configs(self.embedding_bags.items(), self._feature_names, self.mode)
        return self._configs

    def extra_repr(self) -> str:
        """Return the module's shape, mode and dtype in one line."""
        return (
            f"{len(self._tables)} features, {sum(self.embedding_dims)} columns, "
            f"mode={self.mode!r}, dtype={self.dtype}"
        )


def _tables_by_name(tables: Any) -> dict[str, TieredEmbeddingBag | Table]:
    if isinstance(tables, Mapping | nn.ModuleDict):
        named: list[tuple[str, Any]] = list(tables.items())
    else:
        named = [(_table_of(part).name, part) for part in tables]
    if not named:
        raise ValueError("tables: expected at least one table, got none")
    repeated = [name for name, uses in Counter(name for name, _ in named).items() if uses > 1]
    if repeated:
        raise ValueError(
            f"tables: expected each table once, got {repeated} repeatedly; list all features of a "
            "table in feature_names, as in Collection([table], feature_names=[['a', 'b']])"
        )
    return dict(named)


def _table_of(part: object) -> Table:
    if isinstance(part, TieredEmbeddingBag):
        return part.table
    if isinstance(part, Table):
        return part
    raise TypeError(f"tables: expected TieredEmbeddingBag or Table, got {type(part).__name__}")


def _as_module(part: TieredEmbeddingBag | Table, mode: str) -> TieredEmbeddingBag:
    table = _table_of(part)
    if isinstance(part, TieredEmbeddingBag):
        return part
    return TieredEmbeddingBag(
        table.num_embeddings,
        table.embedding_dim,
        mode=mode,
        include_last_offset=True,
        store=table.store,
        name=table.name,
    )


def _common_mode(mode: str | None, parts: Iterable[TieredEmbeddingBag | Table]) -> str:
    modes = {part.mode for part in parts if isinstance(part, TieredEmbeddingBag)}
    if mode is not None:
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(map(repr, MODES))}, got {mode!r}")
        modes.add(mode)
    if len(modes) > 1:
        raise ValueError(f"mode: expected one, got {sorted(modes)}; create a collection per mode")
    if not modes:
        raise ValueError(
            f"mode: a Table has none; expected one of {', '.join(map(repr, MODES))}, got None"
        )
    return modes.pop()


def _features_by_table(
    feature_names: Sequence[str | Sequence[str]] | None, tables: Sequence[str]
) -> list[list[str]]:
    """Return the names of the features of each table."""
    if feature_names is None:
        return [[table] for table in tables]
    if isinstance(feature_names, str) or len(feature_names) != len(tables):
        raise ValueError(
            f"feature_names: expected {len(tables)} entries, one per table, got {feature_names!r}"
        )
    names = [[entry] if isinstance(entry, str) else list(entry) for entry in feature_names]
    for table, features in zip(tables, names, strict=True):
        if not features or len(set(features)) != len(features):
            raise ValueError(
                f"feature_names: expected different names for the features of table {table!r}, "
                f"got {features}"
            )
    return names


def _common_dtype(tables: Sequence[Table]) -> torch.dtype:
    dtypes = {torch_dtype(table) for table in tables}
    if len(dtypes) == 1:
        return dtypes.pop()
    if torch.float64 in dtypes:
        raise ValueError(f"tables: expected float64 for all or none, got {dtypes}")
    return torch.float32

"""The module on many tables, served in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tieralloc.nn._embeddings import TieredEmbeddingBag, TieredModule, dtype_of
from tieralloc.nn._tensors import MODES, Bags, bags_of, empty, outside_graphs
from tieralloc.table import Table


class TieredEmbeddingBagCollection(TieredModule):
    """Many bags of embeddings in one call, whose misses are fetched as one batch.

    Parameters
    ----------
    tables : iterable of TieredEmbeddingBag or Table
        One a feature, in the order of the features, all of one store; one may stand for several
        features. A converted model's ``nn.ModuleList`` of bags will do. Of a module its padding is
        kept; a Table has none.
    mode : {"sum", "mean", "max"}, optional
        How bags are pooled; by default as the modules have it, who must agree, else "sum".
    feature_names : sequence of str, optional
        By default the tables' names.

    Attributes
    ----------
    feature_names : list of str
    embedding_dims : list of int
        Columns of the result a feature.
    mode : str
    dtype : torch.dtype
        Of the result: that of the tables where they share one, else float32.

    Raises
    ------
    ValueError, TypeError
        For no tables, those of several stores, modes or without a common dtype, or for names that
        are not one a feature, each another.
    """

    def __init__(
        self,
        tables: Iterable[TieredEmbeddingBag | Table],
        *,
        mode: str | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        parts = list(tables)
        bags = [part for part in parts if isinstance(part, TieredEmbeddingBag)]
        self._tables = [_table_of(part) for part in parts]
        paddings = [getattr(part, "padding_idx", None) for part in parts]
        self._paddings = paddings if any(row is not None for row in paddings) else None
        self._have_end = [getattr(part, "include_last_offset", False) for part in parts]
        if len({id(table.store) for table in self._tables}) != 1:
            raise ValueError(f"expected tables of one store, got {self._tables}")
        self._store = self._tables[0].store
        self.mode = _common_mode(mode, [bag.mode for bag in bags])
        self.dtype = _common_dtype(self._tables)
        self.embedding_dims = [table.embedding_dim for table in self._tables]
        names = [table.name for table in self._tables] if feature_names is None else feature_names
        self.feature_names = list(names)
        if len(names) != len(parts) or len(set(names)) != len(parts):
            raise ValueError(
                f"feature_names are {self.feature_names}, expected {len(parts)}, one a table, each "
                "another"
            )

    def forward(
        self,
        indices: Tensor | Sequence[Tensor],
        offsets: Tensor | Sequence[Tensor | None] | None = None,
        per_sample_weights: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Pool the bags of all features; `split` tells the features of the result apart.

        Parameters
        ----------
        indices : (nnz,) tensor of int32 or int64
            Rows, feature-major: those of all bags of the first feature, then of the second, …
            Or a sequence of what each feature's module takes as `input`, which is put together
            in a copy.
        offsets : (F * B + 1,) tensor of int32 or int64
            Bag ``b`` of feature ``f`` is ``indices[offsets[f*B+b]:offsets[f*B+b+1]]``. With a
            sequence of `indices`, one of what each feature's module takes as `offsets`, if any.
        per_sample_weights : (nnz,) tensor, optional
            Of the collection's dtype (or float32, for 16-bit rows): what each row is multiplied
            with; mode "sum" only. With a sequence of `indices`, a sequence.

        Returns
        -------
        (B, D) tensor
            D is the sum of the features' dims, in order.

        Raises
        ------
        IndexError, ValueError, TypeError, RuntimeError, OSError
            As for `TieredEmbeddingBag`.
        """
        return outside_graphs(self._pool, indices, offsets, per_sample_weights)

    def _pool(self, indices: Any, offsets: Any, per_sample_weights: Any) -> Tensor:
        if isinstance(indices, Tensor):
            if indices.dim() != 1:
                raise ValueError(
                    f"indices have shape {tuple(indices.shape)}, expected one dimension, or a "
                    "sequence of tensors, one a feature"
                )
            bags = bags_of(indices, offsets, per_sample_weights, self.dtype, has_end=True)
        else:
            bags = self._put_together(indices, offsets, per_sample_weights)
        # Where bags do not share out among the features, the store says so.
        lines = bags.number // len(self._tables)
        result, out = empty((lines, sum(self.embedding_dims)), self.dtype)
        self._store.embedding_bag(
            bags.indices,
            bags.offsets,
            self._tables,
            self.mode,
            bags.weights,
            padding_idx=self._paddings,
            out=out,
        )
        return result

    def _put_together(self, *arguments: Any) -> Bags:
        names = ("indices", "offsets", "per_sample_weights")
        columns = [
            self._one_a_feature(argument, name)
            for argument, name in zip(arguments, names, strict=True)
        ]
        return _concatenate(
            [
                bags_of(indices, offsets, weights, self.dtype, has_end=has_end)
                for indices, offsets, weights, has_end in zip(*columns, self._have_end, strict=True)
            ],
            self.feature_names,
        )

    def _one_a_feature(self, argument: Any, name: str) -> Sequence[Any]:
        if argument is None:
            return [None] * len(self._tables)
        if len(argument) != len(self._tables):
            raise ValueError(
                f"{name} have length {len(argument)}, expected {len(self._tables)}, one a feature"
            )
        return list(argument)

    def split(self, result: Tensor) -> dict[str, Tensor]:
        """Take a result apart.

        Parameters
        ----------
        result : (B, D) tensor
            What `forward` returned.

        Returns
        -------
        dict of str to (B, embedding_dim) tensor
            Views, by the names of the features, in order.
        """
        parts = torch.split(result, self.embedding_dims, dim=1)
        return dict(zip(self.feature_names, parts, strict=True))

    def extra_repr(self) -> str:
        """Describe the module in a line."""
        return (
            f"{len(self._tables)} features, {sum(self.embedding_dims)} columns, "
            f"mode={self.mode!r}, dtype={self.dtype}"
        )


def _table_of(part: TieredEmbeddingBag | Table) -> Table:
    if isinstance(part, TieredEmbeddingBag):
        return part.table
    if isinstance(part, Table):
        return part
    raise TypeError(f"tables have a {type(part).__name__}, expected TieredEmbeddingBag or Table")


def _common_mode(wanted: str | None, modes: Sequence[str]) -> str:
    found = set(modes) if wanted is None else {wanted, *modes}
    if len(found) > 1:
        raise ValueError(f"modes are {sorted(found)}, expected one; make a collection of each")
    mode = found.pop() if found else "sum"
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}, expected one of {', '.join(map(repr, MODES))}")
    return mode


def _common_dtype(tables: Sequence[Table]) -> torch.dtype:
    dtypes = {dtype_of(table) for table in tables}
    if len(dtypes) == 1:
        return dtypes.pop()
    if torch.float64 in dtypes:
        raise ValueError("tables of float64 and of narrower types have no common result")
    return torch.float32


def _concatenate(features: Sequence[Bags], names: Sequence[str]) -> Bags:
    """Put the bags of several features into one call."""
    number = features[0].number
    indices, offsets, weights = [], [], []
    total = 0
    for bags, name in zip(features, names, strict=True):
        if bags.number != number:
            raise ValueError(
                f"feature {name!r} has {bags.number} bags, expected {number}, as many as feature "
                f"{names[0]!r}"
            )
        used = _used(bags, name) if number else 0
        indices.append(bags.indices[:used])
        offsets.append(bags.offsets[:number].astype(np.int64) + total)
        if bags.weights is not None:
            weights.append(bags.weights[:used])
        total += used
    if len(weights) not in (0, len(features)):
        raise ValueError(
            f"per_sample_weights are of {len(weights)} features, expected all {len(features)} or "
            "none"
        )
    return Bags(
        np.concatenate(indices),
        np.concatenate([*offsets, np.array([total])]),
        np.concatenate(weights) if weights else None,
        has_end=True,
    )


def _used(bags: Bags, name: str) -> int:
    """Return where a feature's last bag ends; check what the store cannot see of it any more."""
    first, last = int(bags.offsets[0]), int(bags.offsets[-1])
    size = bags.indices.size
    if first != 0:
        raise ValueError(f"offsets[0] of feature {name!r} must be 0, got {first}")
    if not 0 <= last <= size:
        raise ValueError(f"offsets[-1] of feature {name!r} is {last}, expected 0 to {size}")
    return last if bags.has_end else size

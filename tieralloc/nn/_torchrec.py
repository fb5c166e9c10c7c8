"""torchrec's EmbeddingBagCollection on a store, without a need for torchrec.

Whoever has a module of torchrec's has imported it: its classes are looked up there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._embeddings import TieredEmbeddingBag

_MODULES = "torchrec.modules.embedding_modules"
_TENSORS = "torchrec.sparse.jagged_tensor"


class KeyedCollection(TieredEmbeddingBagCollection):
    """What `convert` puts in the place of an ``EmbeddingBagCollection`` of torchrec's.

    Parameters
    ----------
    collection : torchrec.EmbeddingBagCollection
        Whose place it takes. Its tables have one pooling.
    bags : sequence of TieredEmbeddingBag
        Of its tables, in their order.

    Attributes
    ----------
    embedding_bags : torch.nn.ModuleDict
        The modules on the tables, by the tables' names.
    """

    def __init__(self, collection: Any, bags: Sequence[TieredEmbeddingBag]) -> None:
        configs = list(collection.embedding_bag_configs())
        of_features = [
            (name, bag)
            for config, bag in zip(configs, bags, strict=True)
            for name in config.feature_names
        ]
        super().__init__(
            [bag for _, bag in of_features], feature_names=list(collection._embedding_names)
        )
        self.embedding_bags = nn.ModuleDict(dict(zip(collection.embedding_bags, bags, strict=True)))
        self._configs = configs
        self._weighted = bool(collection.is_weighted())
        self._of_features = of_features
        self._asked = [name for name, _ in of_features]
        self._keyed_tensor: Any = vars(sys.modules[_TENSORS])["KeyedTensor"]

    @property
    def device(self) -> torch.device:
        """Where results are: the CPU."""
        return torch.device("cpu")

    def embedding_bag_configs(self) -> list[Any]:
        """Return the tables' configurations, torchrec's."""
        return self._configs

    def is_weighted(self) -> bool:
        """Whether it takes features with weights."""
        return self._weighted

    def forward(self, features: Any) -> Any:  # type: ignore[override]
        """Pool the bags of all features, in one call to the store.

        Parameters
        ----------
        features : torchrec.KeyedJaggedTensor
            The features, of any order, and others beside them. They are read where they are if
            they come in the order of the tables and nothing else does; else they are copied.

        Returns
        -------
        torchrec.KeyedTensor
            float32, (B, D).

        Raises
        ------
        KeyError
            For a feature that is not there.
        IndexError, ValueError, TypeError, RuntimeError, OSError
            As for `TieredEmbeddingBagCollection`.
        """
        inverse = features.inverse_indices_or_none()
        if inverse is not None or features.variable_stride_per_key():
            values = self._one_by_one(features, inverse)
        elif list(features.keys()) == self._asked:
            weights = features.weights() if self._weighted else None
            values = super().forward(features.values(), features.offsets(), weights)
        else:
            found = features.to_dict()
            parts = [found[name] for name in self._asked]
            values = super().forward(
                [part.values() for part in parts],
                [part.offsets() for part in parts],
                [part.weights() for part in parts] if self._weighted else None,
            )
        return self._keyed_tensor(
            keys=self.feature_names, length_per_key=self.embedding_dims, values=values.float()
        )

    def _one_by_one(self, features: Any, inverse: tuple[list[str], Tensor] | None) -> Tensor:
        """Pool features whose batches differ in size; repeat a sample that stands for several."""
        found = features.to_dict()
        pooled = []
        for name, bag in self._of_features:
            part = found[name]
            weights = part.weights() if self._weighted else None
            pooled.append(bag(part.values(), part.offsets(), weights).float())
        if inverse is not None:
            lines = dict(zip(inverse[0], inverse[1], strict=True))
            pooled = [
                one.index_select(0, lines[name])
                for name, one in zip(self._asked, pooled, strict=True)
            ]
        return torch.cat(pooled, dim=1)


def is_collection(module: nn.Module) -> bool:
    """Whether a module is torchrec's EmbeddingBagCollection and does what that does."""
    if _MODULES not in sys.modules or "forward" in vars(module):
        return False
    return type(module) is vars(sys.modules[_MODULES]).get("EmbeddingBagCollection")


def can_be_one_call(collection: Any) -> bool:
    """Whether the tables of a collection can be served in one call, with the same result."""
    bags = list(collection.embedding_bags.values())
    dtypes = {bag.weight.dtype for bag in bags}
    if any(bag._forward_hooks or bag._forward_pre_hooks for bag in bags):
        return False  # nobody would call them
    if collection.is_weighted() and dtypes != {torch.float32}:
        return False  # torchrec narrows the weights to the rows' type, table by table
    return len({bag.mode for bag in bags}) == 1 and (
        torch.float64 not in dtypes or len(dtypes) == 1
    )

"""The boundary to torchrec, which no module here imports until a call needs its types.

A program that has a module or a tensor of torchrec has imported torchrec.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tieralloc._common.values import QUANTISED

_MODULES = "torchrec.modules.embedding_modules"
_JAGGED_METHODS = ("keys", "values", "offsets", "weights_or_none")


class Feature(NamedTuple):
    """One feature of a KeyedJaggedTensor; the offsets include the end of the last bag."""

    values: Tensor
    offsets: Tensor
    weights: Tensor | None


def keyed_tensor_type() -> Any:
    """Return torchrec's KeyedTensor."""
    try:
        from torchrec.sparse.jagged_tensor import KeyedTensor
    except ImportError as error:
        raise ImportError(
            "TieredEmbeddingBagCollection.forward returns torchrec's KeyedTensor: pip install "
            "torchrec fbgemm-gpu-cpu; without torchrec, call embedding_bag(indices, offsets)"
        ) from error
    return KeyedTensor


def collection_type() -> Any:
    """Return torchrec's EmbeddingBagCollection."""
    from torchrec.modules.embedding_modules import EmbeddingBagCollection

    return EmbeddingBagCollection


def is_jagged(features: Any) -> bool:
    """Return whether an object has the methods of a KeyedJaggedTensor."""
    return all(callable(getattr(features, method, None)) for method in _JAGGED_METHODS)


def has_variable_batches(features: Any) -> bool:
    """Return whether the features have batch sizes of their own."""
    return bool(_call_if_present(features, "variable_stride_per_key"))


def inverse_indices(features: Any) -> tuple[list[str], Tensor] | None:
    """Return for each key the sample of the feature that each sample of the result repeats."""
    inverse: tuple[list[str], Tensor] | None = _call_if_present(features, "inverse_indices_or_none")
    return inverse


def _call_if_present(features: Any, method: str) -> Any:
    return getattr(features, method, lambda: None)()


def select_features(features: Any, names: Sequence[str], weights: Tensor | None) -> list[Feature]:
    """Return the named features of a KeyedJaggedTensor; KeyError for a missing one."""
    keys, values, offsets = list(features.keys()), features.values(), features.offsets()
    if has_variable_batches(features):
        batch_sizes = list(features.stride_per_key())
    else:
        batch_sizes = [(len(offsets) - 1) // max(1, len(keys))] * len(keys)
    starts = np.cumsum([0, *batch_sizes]).tolist()
    places = {key: slice(starts[i], starts[i + 1] + 1) for i, key in enumerate(keys)}
    selected = []
    for name in names:
        if name not in places:
            raise KeyError(f"features: expected a feature {name!r}, got {keys}")
        ends = offsets[places[name]]
        span = slice(int(ends[0]), int(ends[-1]))
        factors = None if weights is None else weights[span]
        selected.append(Feature(values[span], ends - ends[0], factors))
    return selected


def features_in_order(features: Any, names: Sequence[str]) -> Any:
    """Return a KeyedJaggedTensor with these features only, in this order, as a graph can.

    None if their batch sizes differ, or the result repeats samples.
    """
    if inverse_indices(features) is not None or has_variable_batches(features):
        return None
    keys = list(features.keys())
    if keys == list(names):
        return features
    if missing := [name for name in names if name not in keys]:
        raise KeyError(f"features: expected a feature {missing[0]!r}, got {keys}")
    return features.permute([keys.index(name) for name in names])


def bag_configs(
    bags: Iterable[tuple[str, Any]], feature_names: Sequence[list[str]], mode: str
) -> list[Any]:
    """Return torchrec's EmbeddingBagConfig of each table; ValueError if torchrec has none."""
    from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig, PoolingType

    dtypes = {"float32": DataType.FP32, "float16": DataType.FP16, "bfloat16": DataType.BF16}
    dtypes |= dict.fromkeys(QUANTISED, DataType.FP32)  # `restore` dequantises
    poolings = {"sum": PoolingType.SUM, "mean": PoolingType.MEAN}
    configs = []
    for (name, bag), features in zip(bags, feature_names, strict=True):
        table = bag.table
        if table.dtype not in dtypes or mode not in poolings:
            raise ValueError(
                f"table {name!r}: torchrec expects {', '.join(dtypes)} and mode 'sum' or 'mean', "
                f"got {table.dtype} and mode {mode!r}"
            )
        configs.append(
            EmbeddingBagConfig(
                name=name,
                num_embeddings=table.num_embeddings,
                embedding_dim=table.embedding_dim,
                data_type=dtypes[table.dtype],
                feature_names=list(features),
                pooling=poolings[mode],
            )
        )
    return configs


def is_collection(module: nn.Module) -> bool:
    """Return whether a module is an unmodified EmbeddingBagCollection of torchrec."""
    if _MODULES not in sys.modules or "forward" in vars(module):
        return False
    return type(module) is vars(sys.modules[_MODULES]).get("EmbeddingBagCollection")


def is_one_call(collection: Any) -> bool:
    """Return whether one call to a store gives the same result as a collection of torchrec."""
    bags = list(collection.embedding_bags.values())
    dtypes = {bag.weight.dtype for bag in bags}
    if any(bag._forward_hooks or bag._forward_pre_hooks for bag in bags):
        return False  # one call for all bags would skip the hooks
    if collection.is_weighted() and dtypes != {torch.float32}:
        return False  # torchrec rounds the weights to the dtype of each table
    if any(
        len(set(config.feature_names)) != len(config.feature_names)
        for config in collection.embedding_bag_configs()
    ):
        return False  # names would repeat in the result
    return len({bag.mode for bag in bags}) == 1 and (
        torch.float64 not in dtypes or len(dtypes) == 1
    )

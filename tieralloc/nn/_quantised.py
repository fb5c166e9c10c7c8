"""The tables of torchrec's quantised EmbeddingBagCollection, as rows for a store.

Its rows lie in FBGEMM's modules (``IntNBitTableBatchedEmbeddingBagsCodegen``), each padded to
``row_alignment`` bytes; without the padding they are rows of a store.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_MODULES = "torchrec.quant.embedding_modules"
_DTYPES = {"int8": "int8", "int4": "int4", "fp32": "float32", "fp16": "float16"}
_FLOATS = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class QuantisedBag:
    """A table of a collection: its rows as a store has them, and how it is pooled."""

    name: str
    rows: Tensor  # (num_embeddings, row_bytes) uint8, or floats
    embedding_dim: int
    dtype: str
    mode: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and elements per row."""
        return len(self.rows), self.embedding_dim


def is_quantised_collection(module: nn.Module) -> bool:
    """Return whether a module is an EmbeddingBagCollection of torchrec.quant."""
    if _MODULES not in sys.modules:
        return False
    return type(module) is vars(sys.modules[_MODULES]).get("EmbeddingBagCollection")


def quantised_bags(collection: Any) -> list[QuantisedBag]:
    """Return the tables of a collection without a `reason_to_keep_quantised`."""
    bags = []
    for module in collection._emb_modules:
        mode = module.pooling_mode.name.lower()
        parts = module.split_embedding_weights_with_scale_bias(split_scale_bias_mode=0)
        for (name, _, dim, kind, _), (padded, _, _) in zip(
            module.embedding_specs, parts, strict=True
        ):
            dtype = _DTYPES[kind.value]
            rows = _without_padding(padded, dim, dtype)
            bags.append(QuantisedBag(name, rows, dim, dtype, mode))
    return bags


def _without_padding(padded: Tensor, dim: int, dtype: str) -> Tensor:
    if dtype in _FLOATS:
        return padded.view(_FLOATS[dtype])[:, :dim]
    return padded[:, : 4 + (dim if dtype == "int8" else dim // 2)]


def reason_to_keep_quantised(collection: Any) -> str | None:
    """Return why a store cannot serve a quantised collection; None if it can."""
    if "forward" in vars(collection):
        return "its forward is replaced"
    for module in collection._emb_modules:
        if type(module).__name__ != "IntNBitTableBatchedEmbeddingBagsCodegen":
            return f"its rows are in a {type(module).__name__}"
        kinds = {kind.value for _, _, _, kind, _ in module.embedding_specs} - _DTYPES.keys()
        if kinds:
            return f"rows: expected {', '.join(_DTYPES)}, got {', '.join(sorted(kinds))}"
        if not module.use_cpu or module.scale_bias_size_in_bytes != 4 or module.reverse_qparam:
            return "rows: expected rows of a CPU with float16 scale and bias in front"
        if module.index_remappings_array.numel() or module.index_remapping_hash_table.numel():
            return "rows: expected all rows, got pruned ones"
    modes = {module.pooling_mode.name.lower() for module in collection._emb_modules}
    if len(modes) != 1 or not modes <= {"sum", "mean"}:
        return f"pooling: expected sum or mean for all tables, got {', '.join(sorted(modes))}"
    if collection.output_dtype() not in _FLOATS.values():
        return f"output_dtype: expected float32 or float16, got {collection.output_dtype()}"
    if any(
        len(set(config.feature_names)) != len(config.feature_names)
        for config in collection.embedding_bag_configs()
    ):
        return "feature names repeat in a table"
    return None

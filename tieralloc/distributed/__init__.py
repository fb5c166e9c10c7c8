"""Embedding tables sharded over the ranks of torch.distributed, by torchrec's own means.

Each rank serves its shards from its own store. Indices travel by torchrec's ``KJTAllToAll``, pooled
vectors by its ``PooledEmbeddingsAllToAll``, rows by its ``SequenceEmbeddingsAllToAll``. The plan is
torchrec's: a ``ParameterSharding`` per table. Inference only.
"""

from __future__ import annotations

import importlib

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("tieralloc.distributed needs torch: pip install tieralloc[torch]") from error

from tieralloc.distributed._collections import (
    ShardedTieredEmbeddingBagCollection,
    ShardedTieredEmbeddingCollection,
)
from tieralloc.distributed._ranks import RankError

__all__ = [
    "RankError",
    "ShardedTieredEmbeddingBagCollection",
    "ShardedTieredEmbeddingCollection",
]

_PLANNER = {"plan": "plan_shards", "RankLimits": "RankLimits"}


def __getattr__(name: str) -> object:
    # The planner simulates; a serving rank does not load it.
    if name in _PLANNER:
        return getattr(importlib.import_module("tieralloc.tools.plan.shards"), _PLANNER[name])
    raise AttributeError(f"module 'tieralloc.distributed' has no attribute {name!r}")

"""Tiered memory allocator for embedding vectors: a small fast pool before a large slow one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tieralloc.delta.delta import Delta
from tieralloc.delta.errors import DeltaError
from tieralloc.errors import raise_renamed
from tieralloc.operate.async_calls import PendingLookup
from tieralloc.operate.switch import Switch
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.store import TieredStore
from tieralloc.table import Table
from tieralloc.tiers import File, NumaMemory

if TYPE_CHECKING:
    from tieralloc.checkpoint.checkpoint import Checkpoint, JoinedRows, RawRows

__version__ = "0.1.0"
__all__ = [
    "Checkpoint",
    "Delta",
    "DeltaError",
    "File",
    "JoinedRows",
    "LearnedPolicy",
    "NumaMemory",
    "PendingLookup",
    "RawRows",
    "Switch",
    "Table",
    "TieredStore",
    "distributed",
    "metrics",
    "nn",
    "policies",
    "tools",
    "trace",
]

# Imported on first use: they need more than numpy, or few programs need them.
_ON_DEMAND_ROOMS = ("distributed", "metrics", "nn", "policies", "tools", "trace")
_ON_DEMAND = dict.fromkeys(
    ("Checkpoint", "JoinedRows", "RawRows"), "tieralloc.checkpoint.checkpoint"
)


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND_ROOMS:
        return importlib.import_module(f"tieralloc.{name}")
    if name in _ON_DEMAND:
        return getattr(importlib.import_module(_ON_DEMAND[name]), name)
    raise_renamed(AttributeError, f"tieralloc.{name}")
    raise AttributeError(f"module 'tieralloc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND, *_ON_DEMAND_ROOMS})

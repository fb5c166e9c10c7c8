"""Tiered memory allocator for embedding vectors: a small fast pool before a large slow one."""

from __future__ import annotations

import importlib
from types import ModuleType

from tieralloc.checkpoint.checkpoint import Checkpoint, JoinedRows, RawRows
from tieralloc.delta.delta import Delta
from tieralloc.delta.errors import DeltaError
from tieralloc.errors import raise_renamed
from tieralloc.operate.async_calls import PendingLookup
from tieralloc.operate.switch import Switch
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.store import TieredStore
from tieralloc.table import Table
from tieralloc.tiers import File, NumaMemory

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

_ON_DEMAND = ("distributed", "metrics", "nn", "policies", "tools", "trace")


def __getattr__(name: str) -> ModuleType:
    # Rooms that need more than numpy, or that serving does not need, are imported on first use.
    if name in _ON_DEMAND:
        return importlib.import_module(f"tieralloc.{name}")
    raise_renamed(AttributeError, f"tieralloc.{name}")
    raise AttributeError(f"module 'tieralloc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})

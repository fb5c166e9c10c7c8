"""Deltas: changed rows of several tables with a version, as arrays or as a file.

`TieredStore.apply` applies them.
"""

from tieralloc.delta.delta import AppliedDelta, Delta
from tieralloc.delta.errors import (
    DamagedDeltaError,
    DeltaError,
    DuplicateDeltaError,
    MissingDeltaError,
    OutOfOrderDeltaError,
    TruncatedDeltaError,
)

__all__ = [
    "AppliedDelta",
    "DamagedDeltaError",
    "Delta",
    "DeltaError",
    "DuplicateDeltaError",
    "MissingDeltaError",
    "OutOfOrderDeltaError",
    "TruncatedDeltaError",
]

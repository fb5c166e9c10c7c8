"""Deltas: changed rows of several tables with a version, as arrays or as a file.

`TieredStore.apply` applies them; `tieralloc.Delta` makes one. The errors are kinds of
`tieralloc.DeltaError`.
"""

from tieralloc.delta.delta import AppliedDelta
from tieralloc.delta.errors import (
    DamagedDeltaError,
    DuplicateDeltaError,
    MissingDeltaError,
    OutOfOrderDeltaError,
    TruncatedDeltaError,
)

__all__ = [
    "AppliedDelta",
    "DamagedDeltaError",
    "DuplicateDeltaError",
    "MissingDeltaError",
    "OutOfOrderDeltaError",
    "TruncatedDeltaError",
]

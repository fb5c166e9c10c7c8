"""Refusals of deltas, one class each; the store is as it was."""

from __future__ import annotations

__all__ = [
    "DamagedDeltaError",
    "DeltaError",
    "DuplicateDeltaError",
    "MissingDeltaError",
    "OutOfOrderDeltaError",
    "TruncatedDeltaError",
    "check_order",
]


class DeltaError(ValueError):
    """A delta was refused; the base class of the reasons."""


class DuplicateDeltaError(DeltaError):
    """The store has the version of the delta already: skip the delta."""


class MissingDeltaError(DeltaError):
    """A delta before this one is missing: fetch and apply it first."""


class OutOfOrderDeltaError(DeltaError):
    """The delta follows a version that the store has passed."""


class TruncatedDeltaError(DeltaError):
    """The delta ends early: fetch it again."""


class DamagedDeltaError(DeltaError):
    """The file is no delta, damaged, or of a newer format."""


def check_order(version: int, follows: int, at: int, name: str = "delta") -> None:
    """Raise the `DeltaError` of a delta that does not follow version `at` of a store."""
    delta = f"{name}: the store is at version {at}, the delta leads from {follows} to {version}"
    if follows == at:
        return
    if version == at:
        raise DuplicateDeltaError(f"{delta}: applied already; expected one that follows {at}")
    if follows > at:
        raise MissingDeltaError(
            f"{delta}: a delta is missing; expected one that follows {at}, got {follows}"
        )
    passed = "an older delta" if version < at else "a delta of another sequence"
    raise OutOfOrderDeltaError(
        f"{delta}: out of order, {passed}; expected one that follows {at}, got {follows}"
    )

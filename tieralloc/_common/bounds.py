"""The effect of an index out of range."""

from __future__ import annotations

__all__ = ["bounds_of"]


def bounds_of(bounds_check_mode: str, on_missing: str) -> str:
    """Return the core's name of the effect of an index out of range."""
    if bounds_check_mode not in ("fatal", "warning"):
        raise ValueError(
            f"bounds_check_mode: expected 'fatal' or 'warning', got {bounds_check_mode!r}"
        )
    if on_missing not in ("error", "default"):
        raise ValueError(f"on_missing: expected 'error' or 'default', got {on_missing!r}")
    if on_missing == "error":
        return bounds_check_mode
    if bounds_check_mode == "warning":
        raise ValueError(
            "on_missing: 'default' contradicts bounds_check_mode='warning', which serves row 0; "
            "expected one of them"
        )
    return "default_row"

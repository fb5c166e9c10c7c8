"""torch, or an error that says what to install."""

try:
    import torch
except ImportError as error:
    raise ImportError(
        "learned policies need torch, which is not installed: pip install 'tieralloc[torch]'"
    ) from error

__all__ = ["torch"]

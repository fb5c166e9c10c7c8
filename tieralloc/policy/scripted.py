"""Models as files: torch modules compiled to bytes, and loaded to be run without Python.

All that knows TorchScript, which torch deprecates, is here, so that an exported program can take
its place. Loading can run code that the maker of the bytes chose: no loader of TorchScript is safe
from it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from tieralloc._common.torch import torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["compile_module", "load_module"]


def compile_module(module: nn.Module) -> bytes:
    """Compile a module for inference; it keeps its parameters by their names.

    The module itself stays as it is.
    """
    buffer = io.BytesIO()
    training = module.training
    module.eval()
    try:
        with _deprecations_unsaid():
            torch.jit.save(torch.jit.script(module), buffer)
    finally:
        module.train(training)
    return buffer.getvalue()


def load_module(data: bytes, name: str) -> nn.Module:
    """Load a compiled module, on the CPU.

    Raises
    ------
    ValueError
        For what is none, by the name of the model.
    """
    try:
        with _deprecations_unsaid():
            loaded = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
            return cast("nn.Module", loaded)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"model {name!r} cannot be loaded by torch: {reason}") from error


@contextmanager
def _deprecations_unsaid() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield

"""Models as bytes: compile a torch module, and load it for inference without Python.

Only this module uses TorchScript, which torch deprecates, so that exported programs can replace
it. Loading can run code of the author of the bytes, as in every TorchScript loader.
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
    """Return a module compiled for inference; parameters keep their names.

    The module itself stays unchanged.
    """
    buffer = io.BytesIO()
    training = module.training
    module.eval()
    try:
        with _no_deprecation_warnings():
            torch.jit.save(torch.jit.script(module), buffer)
    finally:
        module.train(training)
    return buffer.getvalue()


def load_module(data: bytes, name: str) -> nn.Module:
    """Return a compiled module on the CPU; `name` is the name of the model in errors.

    Raises
    ------
    ValueError
        For invalid bytes.
    """
    try:
        with _no_deprecation_warnings():
            loaded = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
            return cast("nn.Module", loaded)
    except Exception as error:  # the archive's code and its decoder may raise any
        reason = str(error).partition("\n")[0]
        raise ValueError(f"model {name!r}: torch cannot load it: {reason}") from error


@contextmanager
def _no_deprecation_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield

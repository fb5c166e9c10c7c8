"""torch's tensors as arrays on the same memory, and the bags of a call among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Result = TypeVar("_Result")

DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
}
MODES = ("sum", "mean", "max")
_INTEGERS = (torch.int32, torch.int64)
_CHUNK_BYTES = 16 << 20


def memory_of(tensor: Tensor) -> NDArray[Any]:
    """Lend a tensor of rows as an array; bfloat16, which NumPy lacks, as the uint16 of its bits."""
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def empty(shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, NDArray[Any]]:
    """Make a tensor for a result; return it and the same memory as an array."""
    # Said to be on the CPU, whatever torch's default device is.
    result = torch.empty(shape, dtype=dtype, device="cpu")
    return result, memory_of(result)


def chunks_of(weight: Tensor) -> Iterator[NDArray[Any]]:
    """Lend the rows of a tensor some MiB at a time: only what is not contiguous gets copied."""
    row_bytes = weight.shape[1] * weight.element_size()
    for rows in torch.split(weight.detach(), max(1, _CHUNK_BYTES // row_bytes)):
        yield memory_of(rows)


def integers_of(tensor: Tensor, what: str) -> NDArray[Any]:
    """Lend indices or offsets as an array."""
    _check(tensor, what, _INTEGERS)
    return tensor.numpy()


def weights_of(tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Lend per-sample weights for rows of this dtype as an array; 16-bit ones are widened."""
    narrow = dtype.itemsize == 2
    _check(tensor, "per_sample_weights", (dtype, torch.float32) if narrow else (dtype,))
    if tensor.requires_grad and torch.is_grad_enabled():
        refuse_gradients("per_sample_weights that require one")
    tensor = tensor.detach()
    return (tensor.float() if narrow else tensor).numpy()


def _check(tensor: Tensor, what: str, dtypes: Sequence[torch.dtype]) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{what}: got {type(tensor).__name__}, expected {_tensor_of(dtypes)}")
    if tensor.dtype not in dtypes or tensor.layout is not torch.strided:
        raise TypeError(
            f"{what}: got a tensor of {tensor.dtype}, {tensor.layout}, expected "
            f"{_tensor_of(dtypes)}, strided"
        )
    if not tensor.is_cpu:
        raise ValueError(f"{what}: got a tensor on {tensor.device}, expected one on cpu")


def _tensor_of(dtypes: Sequence[torch.dtype]) -> str:
    return "a tensor of " + " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def refuse_gradients(what: str) -> NoReturn:
    """Raise the error of a caller who asks for gradients."""
    raise RuntimeError(
        f"a gradient was asked for ({what}), but tiered modules serve inference only; "
        "call under torch.no_grad() or torch.inference_mode(), or detach what requires one"
    )


class Bags(NamedTuple):
    """What `torch.nn.EmbeddingBag.forward` takes, in one dimension, as arrays."""

    indices: NDArray[Any]
    offsets: NDArray[Any]
    weights: NDArray[Any] | None
    has_end: bool  # whether offsets hold the end of the last bag

    @property
    def number(self) -> int:
        """Bags there are."""
        return max(0, self.offsets.size - self.has_end)


def bags_of(
    input: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    dtype: torch.dtype,
    *,
    has_end: bool,
) -> Bags:
    """Check and lend a call's tensors, nested ones too; `dtype` is that of the rows."""
    if isinstance(input, Tensor) and input.is_nested:
        nested: Any = input
        values = weights.values() if weights is not None and weights.is_nested else weights
        return bags_of(nested.values(), nested.offsets(), values, dtype, has_end=True)
    indices = integers_of(input, "input")
    factors = None if weights is None else weights_of(weights, dtype)
    if factors is not None and factors.shape != indices.shape:
        raise ValueError(
            f"per_sample_weights have shape {factors.shape}, expected that of the input, "
            f"{indices.shape}"
        )
    if indices.ndim == 2:
        if offsets is not None:
            raise ValueError("got offsets with two-dimensional input, expected None: a line a bag")
        lines, length = indices.shape
        starts, has_end = np.arange(lines) * length, False
    elif indices.ndim != 1:
        raise ValueError(f"input has shape {indices.shape}, expected one or two dimensions")
    elif offsets is None:
        raise ValueError(
            "got no offsets with one-dimensional input, expected where each bag begins"
        )
    else:
        starts = integers_of(offsets, "offsets")
        if starts.ndim != 1:
            raise ValueError(f"offsets have shape {starts.shape}, expected one dimension")
        if has_end and starts.size == 0:
            raise ValueError("got no offsets, expected at least the end of the last bag")
    if factors is not None:
        factors = factors.reshape(-1)
    return Bags(indices.reshape(-1), starts, factors, has_end)


def outside_graphs(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function that torch.compile must not look into."""
    # Not a decorator: that would import the compiler, which takes seconds, where nothing needs it.
    if torch.compiler.is_compiling():
        disable: Any = torch.compiler.disable
        result: _Result = disable(function)(*arguments)
        return result
    return function(*arguments)

"""torch tensors as NumPy arrays on the same memory, and the checked arguments of a bag call."""

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


def row_array(rows: Tensor) -> NDArray[Any]:
    """Return rows as an array on the same memory; bfloat16, unknown to NumPy, as uint16 bits."""
    if rows.dtype is torch.bfloat16:
        return rows.view(torch.int16).numpy().view(np.uint16)
    return rows.numpy()


def empty_rows(shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, NDArray[Any]]:
    """Return a new tensor for results, and the same memory as an array."""
    # The device is explicit because torch's default device may be another one.
    result = torch.empty(shape, dtype=dtype, device="cpu")
    return result, row_array(result)


def row_chunks(weight: Tensor, dtype: torch.dtype | None = None) -> Iterator[NDArray[Any]]:
    """Yield the rows of a tensor some MiB at a time, copied only if another dtype is given."""
    for rows in torch.split(weight.detach(), chunk_rows(weight)):
        yield row_array(rows if dtype is None else rows.to(dtype))


def chunk_rows(weight: Tensor) -> int:
    """Return the rows of a tensor that are copied at a time."""
    return max(1, _CHUNK_BYTES // int(weight[0].nbytes))


def integer_array(tensor: Tensor, name: str) -> NDArray[Any]:
    """Return indices or offsets as an array on the same memory."""
    check_integers(tensor, name)
    return tensor.numpy()


def check_integers(tensor: Tensor, name: str) -> None:
    """Raise TypeError or ValueError for a tensor that has no indices or offsets."""
    _check_tensor(tensor, name, _INTEGERS)


def _cast_weights(tensor: Tensor, dtypes: Sequence[torch.dtype]) -> Tensor:
    """Return per-sample weights in the dtype that the store needs; see `check_bags`."""
    rows = dtypes[0]
    accepted = (*dtypes, torch.float32) if rows.itemsize == 2 else dtypes
    _check_tensor(tensor, "per_sample_weights", tuple(dict.fromkeys(accepted)))
    if tensor.requires_grad and torch.is_grad_enabled():
        refuse_gradients("per_sample_weights require a gradient")
    wanted = torch.float64 if rows is torch.float64 else torch.float32
    return tensor.detach().to(wanted)


def _check_tensor(tensor: Tensor, name: str, dtypes: Sequence[torch.dtype]) -> None:
    is_tensor = isinstance(tensor, Tensor)
    if is_tensor and tensor.dtype in dtypes and tensor.layout is torch.strided and tensor.is_cpu:
        return
    expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    if not is_tensor:
        raise TypeError(
            f"{name}: expected a tensor of {expected}, got an object of type "
            f"{type(tensor).__name__}"
        )
    if tensor.dtype not in dtypes or tensor.layout is not torch.strided:
        raise TypeError(
            f"{name}: expected a strided tensor of {expected}, got a tensor of {tensor.dtype}, "
            f"{tensor.layout}"
        )
    raise ValueError(f"{name}: expected a tensor on cpu, got one on {tensor.device}")


def refuse_gradients(problem: str) -> NoReturn:
    """Raise the RuntimeError for a caller that requests gradients."""
    raise RuntimeError(
        f"{problem}; tiered modules are for inference only: call them under torch.no_grad() or "
        "torch.inference_mode(), or detach the tensors that require gradients"
    )


class Bags(NamedTuple):
    """The checked arguments of a call, as one-dimensional arrays; no offsets: rows to copy."""

    indices: NDArray[Any]
    offsets: Any  # an array or None
    weights: NDArray[Any] | None = None
    include_last_offset: bool = False

    @property
    def num_bags(self) -> int:
        """Number of bags."""
        num_offsets: int = self.offsets.size
        return max(0, num_offsets - self.include_last_offset)


class BagTensors(NamedTuple):
    """The checked tensors of a call; no offsets: a bag per line of the indices."""

    indices: Tensor
    offsets: Tensor | None
    weights: Tensor | None
    include_last_offset: bool


def bag_tensors(
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    *,
    dtypes: Sequence[torch.dtype],
    mode: str,
    include_last_offset: bool,
    name: str = "input",
) -> BagTensors:
    """Check the tensors that `torch.nn.EmbeddingBag.forward` accepts, but not their values.

    `dtypes` are those of the rows and of the module, which weights may have; with 16-bit rows they
    may be float32 too. `name` is the argument name of `indices` in errors.
    """
    if weights is not None and mode != "sum":
        raise NotImplementedError(
            f"per_sample_weights: expected None in mode {mode!r}, got weights; only mode 'sum' "
            "supports them"
        )
    if isinstance(indices, Tensor) and indices.is_nested:
        nested: Any = indices
        if weights is not None and not weights.is_nested:
            raise ValueError(
                f"per_sample_weights: expected a nested tensor, as {name}, got a dense one"
            )
        return bag_tensors(
            nested.values(),
            nested.offsets(),
            weights if weights is None else weights.values(),
            dtypes=dtypes,
            mode=mode,
            include_last_offset=True,
            name=name,
        )
    check_integers(indices, name)
    if weights is not None:
        weights = _cast_weights(weights, dtypes)
        if weights.shape != indices.shape:
            raise ValueError(
                f"per_sample_weights: expected the shape of {name}, {tuple(indices.shape)}, got "
                f"{tuple(weights.shape)}"
            )
    dimensions = indices.dim()
    if dimensions == 2:
        if offsets is not None:
            raise ValueError(f"offsets: expected None with two-dimensional {name}, got offsets")
        return BagTensors(indices, None, weights, False)
    if dimensions != 1:
        raise ValueError(
            f"{name}: expected one or two dimensions, got shape {tuple(indices.shape)}"
        )
    if offsets is None:
        raise ValueError(f"offsets: expected the start of each bag in {name}, got None")
    check_integers(offsets, "offsets")
    if offsets.dim() != 1:
        raise ValueError(f"offsets: expected one dimension, got shape {tuple(offsets.shape)}")
    if include_last_offset and len(offsets) == 0:
        raise ValueError("offsets: expected at least the end of the last bag, got none")
    return BagTensors(indices, offsets, weights, include_last_offset)


def with_equal_offsets(
    parts: list[BagTensors], include_last_offset: bool
) -> tuple[list[BagTensors], bool]:
    """Return parts whose offsets all include the end of the last bag, or none."""
    ends = {part.include_last_offset for part in parts if part.offsets is not None}
    if len(ends) < 2:
        return parts, ends.pop() if ends else include_last_offset
    return [
        part
        if part.offsets is None or not part.include_last_offset
        else part._replace(offsets=part.offsets[:-1])
        for part in parts
    ], False


def check_bags(
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    *,
    dtypes: Sequence[torch.dtype],
    mode: str,
    include_last_offset: bool,
    name: str = "input",
) -> Bags:
    """Check tensors as `bag_tensors` does and return their arrays."""
    tensors = bag_tensors(
        indices,
        offsets,
        weights,
        dtypes=dtypes,
        mode=mode,
        include_last_offset=include_last_offset,
        name=name,
    )
    rows = tensors.indices.numpy()
    if tensors.offsets is None:
        num_bags, length = rows.shape
        starts = np.arange(num_bags) * length
    else:
        starts = tensors.offsets.numpy()
    factors = None if tensors.weights is None else tensors.weights.numpy().reshape(-1)
    return Bags(rows.reshape(-1), starts, factors, tensors.include_last_offset)


def concatenate_bags(parts: Sequence[Bags], names: Sequence[str]) -> Bags:
    """Return the bags of several features as one feature-major call."""
    num_bags = parts[0].num_bags
    indices, offsets, weights = [], [], []
    total = 0
    for bags, name in zip(parts, names, strict=True):
        if bags.num_bags != num_bags:
            raise ValueError(
                f"feature {name!r}: expected {num_bags} bags, as in feature {names[0]!r}, got "
                f"{bags.num_bags}"
            )
        end = _end_of_bags(bags, name) if num_bags else 0
        indices.append(bags.indices[:end])
        offsets.append(bags.offsets[:num_bags].astype(np.int64) + total)
        if bags.weights is not None:
            weights.append(bags.weights[:end])
        total += end
    if len(weights) not in (0, len(parts)):
        raise ValueError(
            f"per_sample_weights: expected weights for all {len(parts)} features or none, got "
            f"weights for {len(weights)}"
        )
    return Bags(
        np.concatenate(indices),
        np.concatenate([*offsets, np.array([total])]),
        np.concatenate(weights) if weights else None,
        include_last_offset=True,
    )


def _end_of_bags(bags: Bags, name: str) -> int:
    """Return the end of a feature's last bag; check offsets that concatenation hides."""
    first, last = int(bags.offsets[0]), int(bags.offsets[-1])
    size = bags.indices.size
    if first != 0:
        raise ValueError(f"feature {name!r}: expected offsets[0] to be 0, got {first}")
    if not 0 <= last <= size:
        raise ValueError(f"feature {name!r}: expected offsets[-1] from 0 to {size}, got {last}")
    return last if bags.include_last_offset else size


def in_graph() -> bool:
    """Return whether a graph is traced, in which modules call operators.

    RuntimeError in torch.jit.trace, which would keep the results as constants.
    """
    if torch.compiler.is_compiling():
        return True
    if torch._C._get_tracing_state() is not None:
        refuse_graph("torch.jit.trace")
    return False


def is_exporting() -> bool:
    """Return whether the graph that is traced is one of torch.export."""
    exporting: Any = getattr(torch.compiler, "is_exporting", None)  # since torch 2.7
    return exporting is not None and bool(exporting())


def refuse_graph(call: str) -> NoReturn:
    """Raise the RuntimeError for a caller that turns a module into a graph."""
    raise RuntimeError(
        f"{call}: a lookup in a store cannot be a part of the graph; expected layers without "
        "lookups: make those after the lookups a module of their own, or call "
        "tieralloc.nn.restore(model) first"
    )


def run_eagerly(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function outside the graph of torch.compile; RuntimeError in one of torch.export."""
    if is_exporting():
        refuse_graph("torch.export")
    # A decorator would import the compiler, which takes seconds, in programs that never compile.
    disable: Any = torch.compiler.disable
    result: _Result = disable(function)(*arguments)
    return result

"""The operators of torch that look up rows: what graphs call instead of modules.

`embedding` copies rows; `embedding_bag` pools the bags of tables, whose results lie beside each
other; a padding of -1 is none. The indices are one tensor, table-major, or one per table. The store
is found by its name (`_attached.py`) in each call, and its tables by theirs. native/operators.cpp
has the same operators for programs without Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tieralloc.nn._attached import attached_store, positions_of_names
from tieralloc.nn._lookups import Lookup
from tieralloc.nn._request import end_compiled_request, serve_in_graph
from tieralloc.nn._tensors import Bags, check_bags, concatenate_bags, integer_array

SCHEMAS = (
    "embedding(Tensor indices, *, str store, str[] tables, int[] dims, ScalarType dtype, "
    "bool shares_request=False) -> Tensor",
    "embedding_bag(Tensor[] indices, Tensor?[] offsets, Tensor?[] weights, *, str store, "
    "str[] tables, int[] dims, int[] paddings, str mode, bool include_last_offset, "
    "ScalarType dtype, bool shares_request=False) -> Tensor",
    "end_request(Tensor[] results) -> Tensor",
    "without_gradient(Tensor result, Tensor anchor, str kind) -> Tensor",
    "refuse_backward(Tensor gradient, str kind) -> Tensor",
)
_library: Any = torch.library.Library("tieralloc", "DEF")  # type: ignore[no-untyped-call]
for schema in SCHEMAS:
    _library.define(schema)
embedding = torch.ops.tieralloc.embedding.default
embedding_bag = torch.ops.tieralloc.embedding_bag.default
end_request = torch.ops.tieralloc.end_request.default
without_gradient = torch.ops.tieralloc.without_gradient.default


def _embedding(
    indices: Tensor,
    *,
    store: str,
    tables: Sequence[str],
    dims: Sequence[int],
    dtype: torch.dtype,
    shares_request: bool = False,
) -> Tensor:
    owner = attached_store(store)
    rows = integer_array(indices, "indices")
    return serve_in_graph(
        Lookup(
            store=owner,
            positions=positions_of_names(owner, tables, dims),
            bags=Bags(rows.reshape(-1), None),
            mode="copy",
            paddings=None,
            shape=(*rows.shape, dims[0]),
            dtype=dtype,
            sources=(),
        ),
        shares_request,
    )


def _embedding_bag(
    indices: Sequence[Tensor],
    offsets: Sequence[Tensor | None],
    weights: Sequence[Tensor | None],
    *,
    store: str,
    tables: Sequence[str],
    dims: Sequence[int],
    paddings: Sequence[int],
    mode: str,
    include_last_offset: bool,
    dtype: torch.dtype,
    shares_request: bool = False,
) -> Tensor:
    owner = attached_store(store)
    positions = positions_of_names(owner, tables, dims)
    parts = [
        check_bags(
            *part,
            dtypes=(dtype,),
            mode=mode,
            include_last_offset=include_last_offset,
            name="indices",
        )
        for part in zip(indices, offsets, weights, strict=True)
    ]
    bags = parts[0] if len(parts) == 1 else concatenate_bags(parts, tables)
    return serve_in_graph(
        Lookup(
            store=owner,
            positions=positions,
            bags=bags,
            mode=mode,
            paddings=paddings,
            shape=(bags.num_bags // len(tables), sum(dims)),
            dtype=dtype,
            sources=(),
        ),
        shares_request,
    )


def _shape_of_embedding(
    indices: Tensor,
    *,
    store: str,
    tables: Sequence[str],
    dims: Sequence[int],
    dtype: torch.dtype,
    shares_request: bool = False,
) -> Tensor:
    return indices.new_empty((*indices.shape, dims[0]), dtype=dtype)


def _shape_of_embedding_bag(
    indices: Sequence[Tensor],
    offsets: Sequence[Tensor | None],
    weights: Sequence[Tensor | None],
    *,
    store: str,
    tables: Sequence[str],
    dims: Sequence[int],
    paddings: Sequence[int],
    mode: str,
    include_last_offset: bool,
    dtype: torch.dtype,
    shares_request: bool = False,
) -> Tensor:
    starts = offsets[0]
    bags = indices[0].shape[0] if starts is None else starts.shape[0] - int(include_last_offset)
    if len(indices) == 1:
        bags = bags // len(tables)
    return indices[0].new_empty((bags, sum(dims)), dtype=dtype)


def _end_request(results: Sequence[Tensor]) -> Tensor:
    """Return a copy of the first result, computed after all of them: nothing else orders it."""
    end_compiled_request()
    return results[0].clone()


def _without_gradient(result: Tensor, anchor: Tensor, kind: str) -> Tensor:
    return result.clone()


def _refuse_backward(gradient: Tensor, kind: str) -> Tensor:
    raise RuntimeError(no_gradient(kind))


def _keep_others(ctx: object, inputs: tuple[Sequence[Tensor]], output: Tensor) -> None:
    ctx.others = [None] * (len(inputs[0]) - 1)  # type: ignore[attr-defined]


def _keep_kind(ctx: object, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    ctx.kind = inputs[2]  # type: ignore[attr-defined]


def _backward(ctx: object, gradient: Tensor) -> tuple[None, Tensor, None]:
    kind: str = ctx.kind  # type: ignore[attr-defined]
    return None, torch.ops.tieralloc.refuse_backward.default(gradient, kind), None


def no_gradient(kind: str) -> str:
    """Return the error of a backward pass."""
    return (
        f"backward: a {kind} in training mode has no gradient for its rows, which a "
        "training step would leave unchanged; train the model of tieralloc.nn.restore(model), "
        "or call requires_grad_(False) on the module to train the other layers only"
    )


_library.impl("embedding", _embedding, "CPU")
_library.impl("embedding_bag", _embedding_bag, "CPU")
_library.impl("end_request", _end_request, "CPU")
_library.impl("without_gradient", _without_gradient, "CPU")
_library.impl("refuse_backward", _refuse_backward, "CPU")
_fakes: dict[str, Callable[..., Any]] = {
    "embedding": _shape_of_embedding,
    "embedding_bag": _shape_of_embedding_bag,
    "end_request": lambda results: torch.empty_like(results[0]),
    "without_gradient": lambda result, anchor, kind: torch.empty_like(result),
    "refuse_backward": lambda gradient, kind: gradient.new_empty(0),
}
for name, fake in _fakes.items():
    torch.library.register_fake(f"tieralloc::{name}", fake, lib=_library)
torch.library.register_autograd(
    "tieralloc::end_request",
    lambda ctx, gradient: [gradient, *ctx.others],
    setup_context=_keep_others,
    lib=_library,
)
torch.library.register_autograd(
    "tieralloc::without_gradient", _backward, setup_context=_keep_kind, lib=_library
)

"""State dicts of tables: all rows as the `weight`, or a reference to the table; and back."""

from __future__ import annotations

import json
import os
import secrets
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tieralloc._common.held_core import HeldCore
from tieralloc.nn._tables import torch_dtype
from tieralloc.nn._tensors import chunk_rows, row_array, row_chunks
from tieralloc.store import TieredStore
from tieralloc.table import Table

_REFERENCE = "_extra_state"  # the name that torch gives state other than tensors of a module
_memory_ids: weakref.WeakKeyDictionary[TieredStore, int] = weakref.WeakKeyDictionary()
# .tables, .held: the tensors of tables and the cores of stores, while a whole state dict is made
_thread = threading.local()


def state_dict(model: nn.Module) -> dict[str, Any]:
    """Return the whole checkpoint of a converted model, rows included.

    The keys and values are those of the model before `convert`; ``torch.save`` writes it, and the
    original model loads it. All rows are read into DRAM. ``model.state_dict()`` has a reference to
    the table instead of each ``weight``: `references`.

    A converted model loads both kinds by ``model.load_state_dict``. Rows that a checkpoint has are
    written to the tables. A reference must be to the table of the module, in the same file or one
    of its copies; it has no rows, so the table keeps those that it has.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    dict of str to Tensor
        Of the dtype of the tables. Modules on one table share a tensor.

    Raises
    ------
    OSError
        If a row cannot be read.
    ValueError
        For a closed store.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("checkpoint.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 1))
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> list(ta.nn.state_dict(model))
    ['0.weight', '1.weight', '1.bias']
    """
    with _whole_state_dicts():
        return model.state_dict()


@contextmanager
def _whole_state_dicts() -> Iterator[None]:
    _thread.tables = {}
    _thread.held = {}
    try:
        yield
    finally:
        del _thread.tables, _thread.held


def references(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the references to tables in a state dict without rows.

    ``model.state_dict()`` of a converted model has, for each tiered module, a reference to its
    table under ``PATH._extra_state``: a tensor of bytes, as formats of checkpoints need it.

    Parameters
    ----------
    checkpoint : mapping
        A state dict.

    Returns
    -------
    dict of str to dict
        By path of the module: ``file`` (None: memory), ``store_id``, ``table``, ``shape``.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("references.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 1))
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> ta.nn.references(model.state_dict())["0"]["table"]
    '0'
    """
    return {
        key[: -len(_REFERENCE)].removesuffix("."): _decode(state)
        for key, state in checkpoint.items()
        if key.endswith(_REFERENCE) and _is_reference(state)
    }


def save_table(table: Table, destination: dict[str, Any], prefix: str) -> None:
    """Add the rows of a table to a whole state dict, a reference to any other."""
    tensors: dict[Table, Tensor] | None = getattr(_thread, "tables", None)
    if tensors is None:
        destination[prefix + _REFERENCE] = _encode(_reference_to(table))
        return
    if table not in tensors:
        held = _thread.held.setdefault(table.store, HeldCore(table.store))
        tensors[table] = read_rows(table, held)
    destination[f"{prefix}weight"] = tensors[table]


def load_table(
    table: Table, checkpoint: Mapping[str, Any], prefix: str, errors: list[str]
) -> Collection[str]:
    """Load the rows that a state dict has, or check its reference; append what is wrong.

    Returns the keys that belong to the table.
    """
    weight, reference = f"{prefix}weight", prefix + _REFERENCE
    if weight in checkpoint:
        _load_rows(table, checkpoint, weight, errors)
    elif reference in checkpoint:
        _check_reference(table, checkpoint[reference], reference, errors)
    return (weight, reference)


def _reference_to(table: Table) -> dict[str, Any]:
    store = table.store
    return {
        "file": None if store._path is None else os.path.abspath(store._path),
        "store_id": store.store_id or _memory_ids.setdefault(store, secrets.randbits(63)),
        "table": table.name,
        "shape": [table.num_embeddings, table.embedding_dim],
    }


def _check_reference(table: Table, state: Any, key: str, errors: list[str]) -> None:
    if not _is_reference(state):
        errors.append(f"{key}: expected a reference to a table, got a {type(state).__name__}")
        return
    found, own = _decode(state), _reference_to(table)
    if any(found.get(name) != own[name] for name in ("store_id", "table", "shape")):
        errors.append(
            f"{key}: expected a reference to {_describe(own)}, got one to {_describe(found)}; load "
            "a checkpoint with rows (tieralloc.nn.state_dict), or create the module on that table"
        )


def _describe(reference: Mapping[str, Any]) -> str:
    place = "memory" if reference.get("file") is None else reference["file"]
    shape = tuple(reference.get("shape", ()))
    return f"table {reference.get('table')!r} {shape} of {place} (id {reference.get('store_id')})"


def _encode(reference: Mapping[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(reference).encode()), dtype=torch.uint8, device="cpu")


def _is_reference(state: Any) -> bool:
    return isinstance(state, Tensor) and state.dtype is torch.uint8 and state.dim() == 1


def _decode(state: Tensor) -> dict[str, Any]:
    try:
        reference = json.loads(bytes(state.tolist()))
    except ValueError:
        return {}
    return reference if isinstance(reference, dict) else {}


def _load_rows(table: Table, checkpoint: Mapping[str, Any], key: str, errors: list[str]) -> None:
    weight = checkpoint[key]
    shape = (table.num_embeddings, table.embedding_dim)
    if tuple(weight.shape) != shape:
        errors.append(f"{key}: expected shape {shape}, got {tuple(weight.shape)}")
        return
    table.load(_cast_chunks(weight, torch_dtype(table)))


def _cast_chunks(weight: Tensor, dtype: torch.dtype) -> Iterable[Any]:
    for rows in torch.split(weight.detach(), chunk_rows(weight)):
        yield from row_chunks(rows.to("cpu", dtype))


def read_rows(table: Table, held: HeldCore) -> Tensor:
    """Return all rows of a table, read some MiB at a time; the accesses are not recorded."""
    dtype = torch_dtype(table)
    weight = torch.empty((table.num_embeddings, table.embedding_dim), dtype=dtype, device="cpu")
    first = 0
    for rows in torch.split(weight, chunk_rows(weight)):
        indices = torch.arange(first, first + len(rows)).numpy()
        request = ((table.position,), None, indices, None, False, "copy", None, row_array(rows))
        held.core.embedding_bags([request], "fatal", "unrecorded")
        first += len(rows)
    return weight

"""Whole checkpoints: the rows of tables as the `weight` of a state dict, and back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tieralloc._common.held_core import HeldCore
from tieralloc.nn._tables import torch_dtype
from tieralloc.nn._tensors import chunk_rows, row_array, row_chunks
from tieralloc.table import Table

# .tables, .held: the tensors of tables and the cores of stores, while a whole state dict is made
_thread = threading.local()


def state_dict(model: nn.Module) -> dict[str, Any]:
    """Return the whole checkpoint of a converted model, rows included.

    The keys and values are those of the model before `convert`; ``torch.save`` writes it, and the
    original model loads it. All rows are read into DRAM. ``model.state_dict()`` leaves them out.

    A converted model loads both kinds by ``model.load_state_dict``: rows that a checkpoint has are
    written to the tables, which are unchanged otherwise.

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


def save_rows(table: Table, destination: dict[str, Any], key: str) -> None:
    """Add the rows of a table to a state dict, if it is a whole one."""
    tensors: dict[Table, Tensor] | None = getattr(_thread, "tables", None)
    if tensors is None:
        return
    if table not in tensors:
        held = _thread.held.setdefault(table.store, HeldCore(table.store))
        tensors[table] = read_rows(table, held)
    destination[key] = tensors[table]


def load_rows(table: Table, checkpoint: Mapping[str, Any], key: str, errors: list[str]) -> None:
    """Write the rows of a state dict to a table, if it has them; append what is wrong."""
    if key not in checkpoint:
        return
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

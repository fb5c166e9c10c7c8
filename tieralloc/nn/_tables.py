"""Tables of a store as torch modules need them: dtypes, checks of rows, creation."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor, nn

from tieralloc._common.values import DECODED
from tieralloc.nn._tensors import DTYPES, row_chunks
from tieralloc.store import TieredStore
from tieralloc.table import Table


def torch_dtype(table: Table) -> torch.dtype:
    """Return the torch dtype of a table's results; ValueError for rows of bytes."""
    if table.dtype == "bytes":
        raise ValueError(f"table {table.name!r}: expected rows of numbers, got rows of bytes")
    if table.dtype in DECODED:
        return torch.float32
    return next(dtype for dtype, name in DTYPES.items() if name == table.dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the store's name of a dtype; ValueError for a dtype that tables do not support."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected torch.{', torch.'.join(DTYPES.values())}, got {dtype}")
    return DTYPES[dtype]


def check_rows(weight: Tensor) -> None:
    """Raise ValueError for a tensor of rows that no table can hold."""
    dtype_name(weight.dtype)
    # The values of a subclass, such as a quantised tensor, may be in other memory.
    if type(weight) not in (Tensor, nn.Parameter) or weight.layout is not torch.strided:
        raise ValueError(
            f"rows: expected a dense Tensor, got a {type(weight).__name__} of {weight.layout}"
        )
    if weight.dim() != 2 or weight.numel() == 0:
        raise ValueError(
            "rows: expected shape (num_embeddings, embedding_dim), both above 0, got "
            f"{tuple(weight.shape)}"
        )


def check_loadable(weight: Tensor) -> None:
    """Raise ValueError for a tensor that cannot be loaded into a table."""
    check_rows(weight)
    if weight.device.type != "cpu":
        raise ValueError(f"rows: expected a tensor on cpu, got one on {weight.device}")


def existing_table(
    store: TieredStore, name: str, shape: tuple[int, int], dtype: str | None
) -> Table:
    """Return a table of the store; ValueError if its shape or dtype differs."""
    table = store.table(name)
    table_shape = (table.num_embeddings, table.embedding_dim)
    if table_shape != shape:
        raise ValueError(f"table {name!r}: expected shape {shape}, got {table_shape}")
    if dtype is not None and dtype != table.dtype:
        raise ValueError(f"table {name!r}: expected {dtype}, got {table.dtype}")
    return table


def open_or_create_table(
    store: TieredStore,
    name: str | None,
    shape: tuple[int, int],
    weight: Tensor | None,
    dtype: torch.dtype | None,
) -> Table:
    """Return the store's table of this name, or a new table, loaded with `weight` if given."""
    if not isinstance(store, TieredStore):
        raise TypeError(f"store: expected a TieredStore, got an object of {type(store).__name__}")
    if weight is not None:
        check_loadable(weight)
        if tuple(weight.shape) != shape:
            raise ValueError(f"rows: expected shape {shape}, got {tuple(weight.shape)}")
        dtype = weight.dtype  # torch, too, ignores `dtype` if there is a weight
    tables = store.tables
    if name is None:
        name = next(free for n in count(len(tables)) if (free := f"table{n}") not in tables)
    if name in tables:
        if weight is not None:
            raise ValueError(
                f"name: the store already has a table {name!r}, whose rows would be lost; expected "
                "the name of a new table"
            )
        return existing_table(store, name, shape, None if dtype is None else dtype_name(dtype))
    table = store.create_table(name, *shape, dtype_name(dtype or torch.get_default_dtype()))
    if weight is not None:
        table.load(row_chunks(weight))
    return table

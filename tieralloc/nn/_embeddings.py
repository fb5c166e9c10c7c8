"""The modules on one table: an embedding, and bags of embeddings."""

from __future__ import annotations

from itertools import count
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tieralloc.nn._tensors import (
    DTYPES,
    MODES,
    bags_of,
    chunks_of,
    empty,
    integers_of,
    outside_graphs,
    refuse_gradients,
)
from tieralloc.store import TieredStore
from tieralloc.table import Table


class TieredModule(nn.Module):
    """What a module without parameters, tied to an open store, cannot do."""

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Raise RuntimeError where gradients are asked for; there are no parameters."""
        if requires_grad:
            refuse_gradients(f"requires_grad_() of a {type(self).__name__}")
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: its rows are in a store, which "
            "is open in this process only; open the store's file and build the module on it there"
        )


class _TableModule(TieredModule):
    """A module on one table."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        store: TieredStore,
        name: str | None,
    ) -> None:
        super().__init__()
        if max_norm is not None:
            raise ValueError(f"max_norm is {max_norm}, expected None: lookups do not change rows")
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(f"device is {device}, expected cpu: rows are served from there")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"padding_idx is {padding_idx}, expected None or a row of {num_embeddings}, from "
                "the end where negative"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self.table = _table(store, name, (num_embeddings, embedding_dim), weight, dtype)
        self.dtype = dtype_of(self.table)

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            # Reading all rows of a table larger than memory is never what a caller wants.
            raise AttributeError(
                f"a {type(self).__name__} has no weight: its rows are in a store; read them with "
                "table.lookup(indices) and write them with table.update(indices, values)"
            )
        return super().__getattr__(name)

    def _described(self, *options: str) -> str:
        shown = [f"{self.num_embeddings}, {self.embedding_dim}", *options]
        if self.padding_idx is not None:
            shown.append(f"padding_idx={self.padding_idx}")
        return ", ".join([*shown, f"dtype={self.dtype}", f"table={self.table.name!r}"])


class TieredEmbedding(_TableModule):
    """`torch.nn.Embedding` on a table of a store.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of each.
    padding_idx : int, optional
        Without effect: the row is looked up as it is stored.
    max_norm
        Must be None: lookups do not change rows.
    norm_type, scale_grad_by_freq, sparse
        Without effect: they are about training.
    device
        None or the CPU.
    dtype : torch.dtype, optional
        float32, float16, bfloat16 or float64: that of the table, where there is one already, else
        torch's default.
    store : TieredStore
    name : str, optional
        The table's. Where the store has that table, the module serves it as it stands; else it is
        made, all zero or with the rows of `_weight`. By default a new one with a name of its own.

    Attributes
    ----------
    table : Table
    dtype : torch.dtype
        Of its rows and of what `forward` returns.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense or do not fit the table.
    RuntimeError
        For ``_freeze=False``: it serves inference only.
    OSError
        Where the store's file cannot grow. Where rows cannot be written, the table is made by then.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        store: TieredStore,
        name: str | None = None,
    ) -> None:
        if not _freeze:
            refuse_gradients("freeze=False")
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            weight=_weight,
            device=device,
            dtype=dtype,
            store=store,
            name=name,
        )

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        store: TieredStore,
        name: str | None = None,
    ) -> TieredEmbedding:
        """Make a module whose new table holds the rows of a tensor.

        Parameters
        ----------
        embeddings : (num_embeddings, embedding_dim) tensor
        freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, store, name
            As for the class; `freeze` must be True.

        Raises
        ------
        ValueError, TypeError, RuntimeError, OSError
            As for the class, and where the store has a table of that name.
        """
        check_loadable(embeddings)
        rows, dim = embeddings.shape
        return cls(
            rows,
            dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            embeddings,
            freeze,
            store=store,
            name=name,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Look rows up.

        Parameters
        ----------
        input : (*) tensor of int32 or int64

        Returns
        -------
        (*, embedding_dim) tensor

        Raises
        ------
        IndexError
            For an index out of range.
        ValueError, TypeError
            For an input of another type or device, or a closed store.
        OSError
            Where a row cannot be read.
        """
        return outside_graphs(self._lookup, input)

    def _lookup(self, input: Tensor) -> Tensor:
        indices = integers_of(input, "input")
        result, out = empty((*indices.shape, self.embedding_dim), self.dtype)
        self.table.lookup(indices.reshape(-1), out.reshape(indices.size, self.embedding_dim))
        return result

    def extra_repr(self) -> str:
        """Describe the module in a line."""
        return self._described()


class TieredEmbeddingBag(_TableModule):
    """`torch.nn.EmbeddingBag` on a table of a store.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of each.
    max_norm
        Must be None: lookups do not change rows.
    norm_type, scale_grad_by_freq, sparse
        Without effect: they are about training.
    mode : {"mean", "sum", "max"}
        How a bag is pooled; an empty one gives zeros.
    include_last_offset : bool
        Whether offsets hold the end of the last bag.
    padding_idx : int, optional
        A row that bags leave out, from the end where negative.
    device
        None or the CPU.
    dtype : torch.dtype, optional
        float32, float16, bfloat16 or float64: that of the table, where there is one already, else
        torch's default.
    store : TieredStore
    name : str, optional
        The table's. Where the store has that table, the module serves it as it stands; else it is
        made, all zero or with the rows of `_weight`. By default a new one with a name of its own.

    Attributes
    ----------
    table : Table
    dtype : torch.dtype
        Of its rows and of what `forward` returns.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense or do not fit the table.
    OSError
        Where the store's file cannot grow. Where rows cannot be written, the table is made by then.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        store: TieredStore,
        name: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, expected one of {', '.join(map(repr, MODES))}")
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            weight=_weight,
            device=device,
            dtype=dtype,
            store=store,
            name=name,
        )
        self.mode = mode
        self.include_last_offset = include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        store: TieredStore,
        name: str | None = None,
    ) -> TieredEmbeddingBag:
        """Make a module whose new table holds the rows of a tensor.

        Parameters
        ----------
        embeddings : (num_embeddings, embedding_dim) tensor
        freeze : bool
            Must be True: it serves inference only.
        max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset, padding_idx, \
        store, name
            As for the class.

        Raises
        ------
        RuntimeError
            For ``freeze=False``.
        ValueError, TypeError, OSError
            As for the class, and where the store has a table of that name.
        """
        if not freeze:
            refuse_gradients("freeze=False")
        check_loadable(embeddings)
        rows, dim = embeddings.shape
        return cls(
            rows,
            dim,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            embeddings,
            include_last_offset,
            padding_idx,
            store=store,
            name=name,
        )

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Pool bags of rows.

        Parameters
        ----------
        input : (nnz,) or (B, N) tensor of int32 or int64
            Rows of all bags, one bag after the other, or bags of N rows each.
        offsets : (B,) or (B + 1,) tensor of int32 or int64, optional
            With one-dimensional input only: where each bag begins and, with `include_last_offset`,
            where the last one ends.
        per_sample_weights : tensor of the input's shape, optional
            Of the module's dtype (or float32, for 16-bit rows): what each row is multiplied with;
            mode "sum" only.

        Returns
        -------
        (B, embedding_dim) tensor

        Raises
        ------
        IndexError
            For an index out of range.
        ValueError, TypeError
            For wrong shapes, types or devices, offsets that do not ascend from 0 within the input,
            or a closed store.
        RuntimeError
            Where the gradient of the weights is asked for.
        OSError
            Where a row cannot be read.
        """
        return outside_graphs(self._pool, input, offsets, per_sample_weights)

    def _pool(
        self, input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None
    ) -> Tensor:
        bags = bags_of(
            input, offsets, per_sample_weights, self.dtype, has_end=self.include_last_offset
        )
        result, out = empty((bags.number, self.embedding_dim), self.dtype)
        self.table.embedding_bag(
            bags.indices,
            bags.offsets,
            self.mode,
            bags.weights,
            bags.has_end,
            self.padding_idx,
            out=out,
        )
        return result

    def extra_repr(self) -> str:
        """Describe the module in a line."""
        return self._described(f"mode={self.mode!r}")


def dtype_of(table: Table) -> torch.dtype:
    """Return torch's type of a table's rows."""
    return next(dtype for dtype, name in DTYPES.items() if name == table.dtype)


def check_rows(weight: Tensor) -> None:
    """Raise ValueError, saying why, for a tensor of rows that no table can hold."""
    name_of(weight.dtype)
    # Subclasses, such as quantised ones, may have their values elsewhere.
    if type(weight) not in (Tensor, nn.Parameter) or weight.layout is not torch.strided:
        raise ValueError(
            f"rows are a {type(weight).__name__} of {weight.layout}, expected a dense Tensor"
        )
    if weight.dim() != 2 or weight.numel() == 0:
        raise ValueError(
            f"rows have shape {tuple(weight.shape)}, expected (num_embeddings, embedding_dim), "
            "both above 0"
        )


def check_loadable(weight: Tensor) -> None:
    """Raise ValueError, saying why, for a tensor that cannot be loaded into a table."""
    check_rows(weight)
    if weight.device.type != "cpu":
        raise ValueError(f"rows are on {weight.device}, expected them on cpu")


def name_of(dtype: torch.dtype) -> str:
    """Return the store's name of a type of rows; ValueError for one that it does not have."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}, expected torch.{', torch.'.join(DTYPES.values())}")
    return DTYPES[dtype]


def existing_table(
    store: TieredStore, name: str, shape: tuple[int, int], dtype: torch.dtype | None
) -> Table:
    """Return a table of the store; ValueError where it is not of this shape and type."""
    table = store.table(name)
    found = (table.num_embeddings, table.embedding_dim)
    if found != shape:
        raise ValueError(f"table {name!r} of the store is {found}, expected {shape}")
    if dtype is not None and name_of(dtype) != table.dtype:
        raise ValueError(f"table {name!r} of the store is of {table.dtype}, expected {dtype}")
    return table


def _table(
    store: TieredStore,
    name: str | None,
    shape: tuple[int, int],
    weight: Tensor | None,
    dtype: torch.dtype | None,
) -> Table:
    """Return the store's table of this name, or a new one."""
    if not isinstance(store, TieredStore):
        raise TypeError(f"store is of type {type(store).__name__}, expected TieredStore")
    if weight is not None:
        check_loadable(weight)
        if tuple(weight.shape) != shape:
            raise ValueError(f"rows have shape {tuple(weight.shape)}, expected {shape}")
        dtype = weight.dtype  # as torch has it
    tables = store.tables
    if name is None:
        name = next(free for n in count(len(tables)) if (free := f"table{n}") not in tables)
    if name in tables:
        if weight is not None:
            raise ValueError(f"the store has a table {name!r} already; its rows would be lost")
        return existing_table(store, name, shape, dtype)
    table = store.create_table(name, *shape, name_of(dtype or torch.get_default_dtype()))
    if weight is not None:
        table.load(chunks_of(weight))
    return table

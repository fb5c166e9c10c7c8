"""`torch.nn.Embedding` and `torch.nn.EmbeddingBag` on a table of a store."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tieralloc.nn import _operators
from tieralloc.nn._lookups import Lookup
from tieralloc.nn._modules import TableModule, TieredModule
from tieralloc.nn._tables import check_loadable
from tieralloc.nn._tensors import (
    MODES,
    Bags,
    bag_tensors,
    check_bags,
    check_integers,
    in_graph,
    integer_array,
    refuse_gradients,
    run_eagerly,
)
from tieralloc.store import TieredStore


class TieredEmbedding(TableModule):
    """`torch.nn.Embedding` on a table of a store.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Number of rows of the table, and of elements per row.
    padding_idx : int, optional
        No effect in inference: a lookup returns the stored row.
    max_norm
        Must be None: lookups do not change rows.
    norm_type, scale_grad_by_freq, sparse
        No effect in inference.
    device
        None or the CPU.
    dtype : torch.dtype, optional
        float32, float16, bfloat16 or float64. Default: the dtype of the existing table, or torch's
        default dtype for a new table.
    store : TieredStore
    name : str, optional
        Name of the table. If the store has this table, the module uses it unchanged. Otherwise the
        module creates it, with the rows of `_weight` or all zero. Default: a new table with an
        unused name.

    Attributes
    ----------
    table : Table
    dtype : torch.dtype
        Dtype of results: that of the rows, or the one of the last ``.to(dtype)``.

    Raises
    ------
    ValueError, TypeError
        For invalid arguments, or arguments that do not match the existing table.
    RuntimeError
        For ``_freeze=False``: modules are for inference only.
    OSError
        If the store's file cannot grow, or rows cannot be written; in the second case the new
        table exists.

    Examples
    --------
    >>> store = TieredStore("embedding.tier", fast_bytes="4MiB")
    >>> items = TieredEmbedding(1000, 16, store=store, name="item")
    >>> items(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 16])
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
            refuse_gradients("freeze=False requests gradients")
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
        """Create a module on a new table with the rows of a tensor.

        Parameters
        ----------
        embeddings : (num_embeddings, embedding_dim) tensor
        freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, store, name
            Arguments of the class; `freeze` must be True.

        Raises
        ------
        ValueError, TypeError, RuntimeError, OSError
            As for the class; ValueError if the store already has a table `name`.
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
        """Return the rows of the indices.

        Parameters
        ----------
        input : tensor of int32 or int64, of any shape

        Returns
        -------
        tensor
            The shape of `input`, and `embedding_dim`.

        Raises
        ------
        IndexError
            For an index out of range.
        ValueError, TypeError
            For an input of another dtype or device, or a closed store.
        OSError
            If a row cannot be read.
        """
        if in_graph():
            if self._is_operator():
                return self._in_graph(input)
            return run_eagerly(self._forward, input)
        return self._forward(input)

    def _forward(self, input: Tensor) -> Tensor:
        return self._pool((input,), lambda: self._lookup(input))

    def _in_graph(self, input: Tensor) -> Tensor:
        check_integers(input, "input")
        rows = _operators.embedding(
            input,
            store=self._store_name(),
            tables=[self.table.name],
            dims=[self.embedding_dim],
            dtype=self._result_dtype(),
            shares_request=self._shares_compiled(),
        )
        return self._graph_result(rows)

    def plan(self, input: Tensor) -> Sequence[tuple[TieredModule, Lookup]]:
        """Return the lookup of a call of `forward`."""
        return [(self, self._lookup(input))]

    def _lookup(self, input: Tensor) -> Lookup:
        indices = integer_array(input, "input")
        return Lookup(
            store=self.table.store,
            positions=self._positions,
            bags=Bags(indices.reshape(-1), None),
            mode="copy",
            paddings=None,
            shape=(*indices.shape, self.embedding_dim),
            dtype=self._result_dtype(),
            sources=(input,),
        )

    def extra_repr(self) -> str:
        """Return the module's arguments in one line."""
        return self._describe()


class TieredEmbeddingBag(TableModule):
    """`torch.nn.EmbeddingBag` on a table of a store.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Number of rows of the table, and of elements per row.
    max_norm
        Must be None: lookups do not change rows.
    norm_type, scale_grad_by_freq, sparse
        No effect in inference.
    mode : {"mean", "sum", "max"}
        Pooling mode; an empty bag gives zeros.
    include_last_offset : bool
        Whether offsets include the end of the last bag.
    padding_idx : int, optional
        A row that bags skip, counted from the end if negative.
    device
        None or the CPU.
    dtype : torch.dtype, optional
        float32, float16, bfloat16 or float64. Default: the dtype of the existing table, or torch's
        default dtype for a new table.
    store : TieredStore
    name : str, optional
        Name of the table. If the store has this table, the module uses it unchanged. Otherwise the
        module creates it, with the rows of `_weight` or all zero. Default: a new table with an
        unused name.

    Attributes
    ----------
    table : Table
    dtype : torch.dtype
        Dtype of results: that of the rows, or the one of the last ``.to(dtype)``.

    Raises
    ------
    ValueError, TypeError
        For invalid arguments, or arguments that do not match the existing table.
    OSError
        If the store's file cannot grow, or rows cannot be written; in the second case the new
        table exists.

    Examples
    --------
    >>> store = TieredStore("bag.tier", fast_bytes="4MiB")
    >>> items = TieredEmbeddingBag(1000, 16, store=store, name="item")
    >>> items(torch.tensor([1, 2, 3]), torch.tensor([0, 2])).shape
    torch.Size([2, 16])
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
            raise ValueError(f"mode: expected one of {', '.join(map(repr, MODES))}, got {mode!r}")
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
        """Create a module on a new table with the rows of a tensor.

        Parameters
        ----------
        embeddings : (num_embeddings, embedding_dim) tensor
        freeze : bool
            Must be True: modules are for inference only.
        max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset, padding_idx, \
        store, name
            Arguments of the class.

        Raises
        ------
        RuntimeError
            For ``freeze=False``.
        ValueError, TypeError, OSError
            As for the class; ValueError if the store already has a table `name`.
        """
        if not freeze:
            refuse_gradients("freeze=False requests gradients")
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
        """Return one pooled vector per bag.

        Parameters
        ----------
        input : (nnz,) or (B, N) tensor of int32 or int64, or nested tensor
            The rows of all bags, bag after bag, or B bags of N rows each.
        offsets : (B,) or (B + 1,) tensor of int32 or int64, optional
            For one-dimensional input only: the start of each bag and, with `include_last_offset`,
            the end of the last bag.
        per_sample_weights : tensor of the shape of `input`, optional
            Factors of the rows, of the module's dtype (for 16-bit rows also float32); mode "sum"
            only.

        Returns
        -------
        (B, embedding_dim) tensor

        Raises
        ------
        IndexError
            For an index out of range.
        ValueError, TypeError
            For invalid shapes, dtypes or devices, offsets that do not ascend from 0 within the
            input, or a closed store.
        NotImplementedError
            For weights in another mode than "sum", as in torch.
        RuntimeError
            If the gradient of the weights is requested.
        OSError
            If a row cannot be read.
        """
        if in_graph():
            if self._is_operator():
                return self._in_graph(input, offsets, per_sample_weights)
            return run_eagerly(self._forward, input, offsets, per_sample_weights)
        return self._forward(input, offsets, per_sample_weights)

    def _forward(self, input: Tensor, offsets: Tensor | None, weights: Tensor | None) -> Tensor:
        arguments = (input, offsets, weights)
        return self._pool(arguments, lambda: self._lookup(*arguments, self.include_last_offset))

    def _in_graph(self, input: Tensor, offsets: Tensor | None, weights: Tensor | None) -> Tensor:
        bags = bag_tensors(
            input,
            offsets,
            weights,
            dtypes=(self._row_dtype, self.dtype),
            mode=self.mode,
            include_last_offset=self.include_last_offset,
        )
        return self._graph_result(
            _operators.embedding_bag(
                [bags.indices],
                [bags.offsets],
                [bags.weights],
                store=self._store_name(),
                tables=[self.table.name],
                dims=[self.embedding_dim],
                paddings=self._paddings or [-1] * len(self._positions),
                mode=self.mode,
                include_last_offset=bags.include_last_offset,
                dtype=self._result_dtype(),
                shares_request=self._shares_compiled(),
            )
        )

    def plan(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Sequence[tuple[TieredModule, Lookup]]:
        """Return the lookup of a call of `forward`."""
        return [(self, self._lookup(input, offsets, per_sample_weights, self.include_last_offset))]

    def _lookup(
        self,
        input: Tensor,
        offsets: Tensor | None,
        per_sample_weights: Tensor | None,
        include_last_offset: bool,
    ) -> Lookup:
        bags = check_bags(
            input,
            offsets,
            per_sample_weights,
            dtypes=(self._row_dtype, self.dtype),
            mode=self.mode,
            include_last_offset=include_last_offset,
        )
        return Lookup(
            store=self.table.store,
            positions=self._positions,
            bags=bags,
            mode=self.mode,
            paddings=self._paddings,
            shape=(bags.num_bags, self.embedding_dim),
            dtype=self._result_dtype(),
            sources=(input, offsets, per_sample_weights),
        )

    def extra_repr(self) -> str:
        """Return the module's arguments in one line."""
        return self._describe(f"mode={self.mode!r}")

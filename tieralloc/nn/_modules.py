"""Bases of the modules: no parameters, no copies, rows in a table of an open store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from tieralloc.nn._tables import open_or_create_table, torch_dtype
from tieralloc.nn._tensors import refuse_gradients
from tieralloc.store import TieredStore

if TYPE_CHECKING:
    from typing_extensions import Self


class TieredModule(nn.Module):
    """A module without parameters whose rows are in an open store."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Raise RuntimeError if gradients are requested: there are no parameters."""
        if requires_grad:
            refuse_gradients(f"requires_grad_() of a {type(self).__name__} requests gradients")
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: its rows are in a store that "
            "only this process has open; open the store's file and create a module on it instead"
        )


class TableModule(TieredModule):
    """A module on one table; checks the arguments common to torch's embedding modules."""

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
            raise ValueError(f"max_norm: lookups do not change rows; expected None, got {max_norm}")
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(f"device: results are in DRAM; expected cpu, got {device}")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"padding_idx: expected None or a row from {-num_embeddings} to "
                f"{num_embeddings - 1}, got {padding_idx}"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        shape = (num_embeddings, embedding_dim)
        self.table = open_or_create_table(store, name, shape, weight, dtype)
        self.dtype = torch_dtype(self.table)

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            # A table may be larger than memory, so reading all of its rows is not offered.
            raise AttributeError(
                f"a {type(self).__name__} has no weight: its rows are in a store; read rows with "
                "table.lookup(indices) and write rows with table.update(indices, values)"
            )
        return super().__getattr__(name)

    def _describe(self, *options: str) -> str:
        arguments = [f"{self.num_embeddings}, {self.embedding_dim}", *options]
        if self.padding_idx is not None:
            arguments.append(f"padding_idx={self.padding_idx}")
        return ", ".join([*arguments, f"dtype={self.dtype}", f"table={self.table.name!r}"])

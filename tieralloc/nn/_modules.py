"""Bases of the modules: no parameters, no copies, rows in a table of an open store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from tieralloc.nn import _operators
from tieralloc.nn._attached import StoreNames, names_of
from tieralloc.nn._checkpoints import load_table, save_table
from tieralloc.nn._lookups import Lookup
from tieralloc.nn._request import serve_in_request
from tieralloc.nn._tables import dtype_name, open_or_create_table, torch_dtype
from tieralloc.nn._tensors import is_exporting, refuse_gradients, refuse_graph
from tieralloc.operate.positions import paddings_of
from tieralloc.store import TieredStore

if TYPE_CHECKING:
    from typing_extensions import Self


_ANCHOR = torch.empty(0, requires_grad=True)  # makes results of graphs require a gradient


class TieredModule(nn.Module):
    """A module without parameters whose rows are in an open store.

    Attributes
    ----------
    dtype : torch.dtype
        Dtype of results. ``.to(dtype)``, ``.half()`` and so on change it; rows keep theirs.
    """

    dtype: torch.dtype
    _names: StoreNames
    _row_dtype: torch.dtype  # of the store's results, as the rows have it
    _own_names: frozenset[str]  # of attributes that `restore` leaves out
    _is_cast = False  # whether `dtype` was changed
    _is_trainable = False  # whether it replaces a module whose rows a training step would change
    _shares_requests = False  # whether a request has lookups of other modules of the model
    _is_batched = False  # whether `batch_lookups` serves it

    def _name_attributes(self) -> None:
        """Note the module's own attributes; further ones are the user's."""
        own = {"_own_names", "_is_cast", "_is_trainable", "_shares_requests", "_is_batched"}
        self._own_names = frozenset(vars(self)) | own

    def plan(self, *arguments: Any, **options: Any) -> Sequence[tuple[TieredModule, Lookup]]:
        """Return the lookups of a call of `forward`, and the modules that do them."""
        raise NotImplementedError

    def _pool_lookup(self, lookup: Lookup) -> Tensor:
        return self._pool(lookup.sources, lambda: lookup)

    def _pool(self, sources: Sequence[Tensor | None], make: Callable[[], Lookup]) -> Tensor:
        """Return the result of a lookup, which `make` makes of `sources`, in the module's dtype."""
        result: Tensor
        if self._trains():
            anchor = torch.empty(0, requires_grad=True)
            serve = partial(serve_in_request, self, sources, make)
            result = _WithoutGradient.apply(  # type: ignore[no-untyped-call]
                anchor, type(self).__name__, serve
            )
        else:
            result = serve_in_request(self, sources, make)
        return result.to(self.dtype)

    def _store_name(self) -> str:
        """Return the name of the store in the graph that is traced."""
        if not is_exporting():
            return self._names.handle
        if self._names.public is None:
            raise ValueError(
                "torch.export: another open store has the name of this one; expected a name of its "
                "own: call tieralloc.nn.attach(name, store) before the export"
            )
        return self._names.public

    def _is_operator(self) -> bool:
        """Return whether a call in a graph is an operator: not if a request is served early."""
        return is_exporting() or not self._is_batched

    def _shares_compiled(self) -> bool:
        return self._shares_requests and not is_exporting()

    def _graph_result(self, result: Tensor) -> Tensor:
        """Return the result of an operator in a graph as `_pool` does."""
        if self._trains() and not is_exporting():
            result = _operators.without_gradient(result, _ANCHOR, type(self).__name__)
        return result.to(self.dtype)

    def _trains(self) -> bool:
        return self._is_trainable and self.training and torch.is_grad_enabled()

    def _result_dtype(self) -> torch.dtype:
        """Return the dtype that the store gives results: the rows' or, if wider, float32."""
        is_widened = self._row_dtype.itemsize == 2 and self.dtype.itemsize > 2
        return torch.float32 if is_widened else self._row_dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a change of the model's floating dtype, as torch's modules do."""
        dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        if dtype is not self.dtype:
            dtype_name(dtype)  # ValueError for other dtypes
            self.dtype, self._is_cast = dtype, True
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze the rows; RuntimeError if gradients are requested: there are no parameters."""
        if requires_grad:
            refuse_gradients(f"requires_grad_() of a {type(self).__name__} requests gradients")
        for module in self.modules():
            if isinstance(module, TieredModule):
                module._is_trainable = False
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        refuse_graph("torch.jit.script")


def callers(model: nn.Module) -> dict[str, TieredModule]:
    """Return the tiered modules of a model by path, without those inside of others."""
    found: dict[str, TieredModule] = {}
    inner: set[nn.Module] = set()
    for path, module in model.named_modules():
        if isinstance(module, TieredModule) and module not in inner:
            found[path] = module
            inner |= set(module.modules())
    return found


class _WithoutGradient(torch.autograd.Function):
    """A result whose backward pass is an error."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, kind: str, serve: Callable[[], Tensor]) -> Tensor:
        ctx.kind = kind
        return serve()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> NoReturn:
        raise RuntimeError(_operators.no_gradient(ctx.kind))


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
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        shape = (num_embeddings, embedding_dim)
        self.table = open_or_create_table(store, name, shape, weight, dtype)
        self._names = names_of(store)
        self.dtype = self._row_dtype = torch_dtype(self.table)
        self._positions = (self.table.position,)
        self._paddings = paddings_of(
            store, self._positions, None if padding_idx is None else (self.padding_idx,)
        )
        self._name_attributes()

    @property
    def num_embeddings(self) -> int:
        """Rows of the table."""
        return self.table.num_embeddings

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        save_table(self.table, destination, prefix)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load the rows if the checkpoint has them, or check its reference to the table."""
        known = load_table(self.table, state_dict, prefix, error_msgs)
        unexpected_keys += [
            key for key in state_dict if key.startswith(prefix) and key not in known
        ]

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

"""The summary of a conversion, and the reasons why embeddings are not converted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor, nn

from tieralloc.nn._modules import TieredModule
from tieralloc.nn._quantised import is_quantised_collection, reason_to_keep_quantised
from tieralloc.nn._tables import check_loadable, check_rows
from tieralloc.nn._torchrec import is_collection

# Members of a subclass that matter only during construction; a subclass that defines others stays.
_CONSTRUCTION = {
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__constants__",
    "__doc__",
    "__firstlineno__",
    "__init__",
    "__module__",
    "__parameters__",
    "__qualname__",
    "__static_attributes__",
    "_fill_padding_idx_with_zero",
    "extra_repr",
    "reset_parameters",
}
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class ModuleConversion:
    """An embedding module of a model.

    Attributes
    ----------
    path, kind : str
        Its place in the model, and its class.
    table : str or None
        The name of its table; None if it was not converted.
    num_embeddings : int or None
        Rows; None if they are not known.
    num_bytes : int
        Bytes of its weights; of its rows in the store if it was converted.
    reason : str or None
        Why it was not converted; None if it was.
    dtype : str or None
        Dtype of its table; None if it was not converted.
    """

    path: str
    kind: str
    table: str | None
    num_embeddings: int | None
    num_bytes: int
    reason: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`; `str` gives a table with a line per embedding module.

    Attributes
    ----------
    model : torch.nn.Module
        The converted model.
    modules : tuple of ModuleConversion
        The embedding modules of the model, converted or not, in the order of the model.
    """

    model: nn.Module = field(repr=False)
    modules: tuple[ModuleConversion, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows in the store; modules on one table count once."""
        tables = {entry.table: entry.num_bytes for entry in self.modules if entry.table is not None}
        return sum(tables.values())

    def __str__(self) -> str:
        lines = [("module", "table", "dtype", "rows", "bytes", "converted")]
        for entry in self.modules:
            rows = "-" if entry.num_embeddings is None else f"{entry.num_embeddings:,}"
            outcome = "yes" if entry.reason is None else f"no: {entry.reason}"
            table = "-" if entry.table is None else entry.table
            path, size = entry.path or "(model)", format_bytes(entry.num_bytes)
            lines.append((path, table, entry.dtype or "-", rows, size, outcome))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(*parts, strict=True))
            for parts in ((line[:-1], "<<<>>", widths[:-1]) for line in lines)
        ]
        text = [f"{cells}  {line[-1]}" for cells, line in zip(text, lines, strict=True)]
        converted = sum(entry.reason is None for entry in self.modules)
        text.append(
            f"{converted} of {len(self.modules)} embeddings converted: "
            f"{format_bytes(self.num_bytes)} of rows are in the store"
        )
        return "\n".join(text)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"Conversion has no attribute {name!r}; convert changes the model in place and returns "
            "a summary, whose `model` is the model"
        )


def format_bytes(num_bytes: int) -> str:
    """Return a size with its unit."""
    size = float(num_bytes)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def kept_module(path: str, module: nn.Module, reason: str) -> ModuleConversion:
    """Return the line of a module that is not converted."""
    rows = getattr(module, "num_embeddings", None)
    tensors = [*module.parameters(), *module.buffers()]
    num_bytes = sum(_num_bytes(tensor) for tensor in tensors)
    return ModuleConversion(
        path, kind_of(module), None, rows if isinstance(rows, int) else None, num_bytes, reason
    )


def kind_of(module: nn.Module) -> str:
    """Return the class of an embedding module; torchrec.quant has a plain Module per table."""
    return "quantised EmbeddingBag" if type(module) is nn.Module else type(module).__name__


def _num_bytes(tensor: Tensor) -> int:
    is_lazy = torch.nn.parameter.is_lazy(tensor)
    return 0 if is_lazy else tensor.numel() * tensor.element_size()


def reason_to_keep(module: nn.Module, load: bool) -> str | None:
    """Return why a store cannot serve an embedding; None for one that it can, or for no embedding.

    Known embeddings are torch's, and others with "embedding" in the name of their class and with
    weights of their own, outside of torch's embeddings.
    """
    kind = type(module)
    if isinstance(module, TieredModule) or is_collection(module):
        return None
    if is_quantised_collection(module):
        return reason_to_keep_quantised(module)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        if not _is_plain_lookup(module):
            return f"a {kind.__qualname__} redefines the lookup"
        return _reason_of_weight(module, load)
    name = getattr(module, "original_name", kind.__name__)
    if "embedding" not in name.lower() or not _has_own_weights(module):
        return None
    if kind.__module__.startswith(("torch.ao.nn.quantized", "torchrec.quant")):
        return f"quantised {name}; convert the model before that"
    if isinstance(module, torch.jit.ScriptModule):
        return f"scripted {name}; convert the model before that"
    return f"a {name} of {kind.__module__} is not torch.nn.Embedding or torch.nn.EmbeddingBag"


def _has_own_weights(module: nn.Module) -> bool:
    """Return whether a module has weights, and no part that is looked at on its own."""
    parts = (nn.Embedding, nn.EmbeddingBag, TieredModule)
    if any(isinstance(part, parts) for part in module.modules()):
        return False
    if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_packed_params"):
        return True
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _is_plain_lookup(module: nn.Module) -> bool:
    """Return whether a module behaves as its class in torch.nn."""
    if "forward" in vars(module):
        return False
    own = {key for kind in type(module).__mro__ if _is_subclass(kind) for key in vars(kind)}
    return own <= _CONSTRUCTION


def _is_subclass(kind: type) -> bool:
    """Return whether a class is neither torch's embedding nor one of its bases."""
    return kind not in nn.Embedding.__mro__ and kind not in nn.EmbeddingBag.__mro__


def _reason_of_weight(module: nn.Embedding | nn.EmbeddingBag, load: bool) -> str | None:
    if set(module._parameters) != {"weight"} or module._buffers or module._modules:
        names = ", ".join([*module._parameters, *module._buffers, *module._modules])
        return f"expected a weight and nothing else, got {names}"
    if module.max_norm is not None:
        return f"max_norm: lookups do not change rows; expected None, got {module.max_norm}"
    try:
        (check_loadable if load else check_rows)(module.weight)
    except ValueError as error:
        return str(error)
    return None

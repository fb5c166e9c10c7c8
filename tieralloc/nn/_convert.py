"""`convert`: replace the embedding modules of a model by modules on a store.

The steps: find all weights, refuse before anything changes, create and load all tables, replace
the modules. A failure in a step before the last one leaves the model unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._embeddings import TieredEmbedding, TieredEmbeddingBag
from tieralloc.nn._tables import check_loadable, check_rows, dtype_name, existing_table
from tieralloc.nn._tensors import row_chunks
from tieralloc.nn._torchrec import is_collection, is_one_call
from tieralloc.store import TieredStore

_MAX_NAME_BYTES = 191

# Prefixes of the state of torch modules that a replacement takes over. The hooks are the same
# dictionaries, so that their handles still remove them.
_KEPT = ("training", "_forward_", "_backward_", "_is_full_backward_hook")
_DROPPED = ("_compiled_call_impl",)  # the result of Module.compile: it runs the old module

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


def convert(
    model: nn.Module,
    store: TieredStore,
    *,
    prefix: str = "",
    names: Mapping[str, str] | None = None,
    load: bool = True,
) -> nn.Module:
    """Replace every embedding module of a model by a tiered module on a table of a store.

    Replaced are `torch.nn.Embedding` and `torch.nn.EmbeddingBag` anywhere in the model, in place,
    and no other modules. `convert` copies the rows to the tables some MiB at a time. The model
    releases its own rows at the end, after all tables are loaded. The new modules keep the
    training flag, the forward and backward hooks, and the attributes of the old modules.

    The outputs of the model stay the same: bit for bit for lookups and for sums in float32
    (except with both weights and a `padding_idx`), to rounding otherwise. Code of the model that
    reads the `weight` of an embedding gets an AttributeError.

    One table serves a module at several places in the model, and modules that share one weight.
    A weight that other modules also use, such as a tied output layer, stays in memory for them.

    An ``EmbeddingBagCollection`` of torchrec becomes a `TieredEmbeddingBagCollection`, which
    serves all its tables in one call. If one call cannot give the same result, for example
    because the pooling modes differ, the collection stays and its bags are replaced.

    Subclasses are replaced if they redefine only their construction. Other subclasses, and modules
    whose `forward` was replaced, stay unchanged, with a warning.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, and not in use by another thread.
    store : TieredStore
    prefix : str
        Prefix of the table names. The table of the module at path "emb.0" is
        ``prefix + "emb.0"``. For a model that is itself an embedding, the path is "" and the
        table's name is `prefix`, or "embedding" without a prefix.
    names : mapping of str to str, optional
        Other table names, by module path.
    load : bool
        Whether to create the tables and copy the rows. With False, the store must already have
        the tables, which the model then uses unchanged. `convert` then does not read the model's
        own weights; they may be on the meta device.

    Returns
    -------
    torch.nn.Module
        `model`, or the new module if `model` is itself an embedding.

    Raises
    ------
    ValueError
        Before anything changes, for a closed store; for all modules that a store cannot serve,
        each with its reason (`max_norm`, a weight on another device, quantised, of an unsupported
        dtype, or computed from other parameters); for tables that already exist; and, with
        ``load=False``, for tables that are missing or do not match.
    TypeError
        For a `model` or `store` of another type.
    OSError, ValueError, MemoryError
        As for `TieredStore.create_table` and `Table.load`. The model is unchanged; tables that
        were already created stay in the store's file, which cannot drop tables.

    Examples
    --------
    >>> store = TieredStore("model.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.EmbeddingBag(1000, 16), nn.Linear(16, 1))
    >>> type(convert(model, store)[0]).__name__
    'TieredEmbeddingBag'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got a {type(model).__name__}")
    if not isinstance(store, TieredStore):
        raise TypeError(f"store: expected a TieredStore, got a {type(store).__name__}")
    if store.closed:
        raise ValueError("store: expected an open store, got a closed one")
    weights = _find_weights(model, load)
    _name_tables(weights, prefix, names or {})
    _check_tables(weights, store, load)
    if load:
        for weight in weights:
            rows, dim = weight.tensor.shape
            store.create_table(weight.table, rows, dim, dtype_name(weight.tensor.dtype))
        for weight in weights:
            store.table(weight.table).load(row_chunks(weight.tensor))
    replacements: dict[int, nn.Module] = {
        id(module): _replacement(module, store, weight.table)
        for weight in weights
        for module in weight.modules
    }
    replacements |= _collection_replacements(model, replacements)
    # A model may redefine setattr, and nothing may fail from here on.
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            parent._modules[key] = replacements.get(id(child), child)
    return replacements.get(id(model), model)


@dataclass
class _Weight:
    """A weight, the modules that use it with their paths, and the name of its table."""

    tensor: Tensor
    modules: list[nn.Embedding | nn.EmbeddingBag] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    table: str = ""


def _find_weights(model: nn.Module, load: bool) -> list[_Weight]:
    """Return the weights to move; ValueError with all modules that a store cannot serve."""
    weights: dict[int, _Weight] = {}
    refused = []
    unchanged = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            if _was_embedding(module):
                refused.append(f"{path!r}: scripted or quantised; convert the model before that")
        elif not _is_plain_lookup(module):
            unchanged.append(f"{path!r} (a {type(module).__qualname__})")
        elif reason := _refusal(module, load):
            refused.append(f"{path!r}: {reason}")
        else:
            weight = weights.setdefault(id(module.weight), _Weight(module.weight))
            weight.modules.append(module)
            weight.paths.append(path)
    if refused:
        raise ValueError("cannot convert module " + "; ".join(refused))
    if unchanged:
        warnings.warn(
            f"not converted, because they redefine the lookup: {', '.join(unchanged)}",
            stacklevel=3,
        )
    return list(weights.values())


def _was_embedding(module: nn.Module) -> bool:
    kind = type(module)
    is_quantised = kind.__module__.startswith("torch.ao.nn.quantized")
    if not (is_quantised or isinstance(module, torch.jit.ScriptModule)):
        return False
    name = getattr(module, "original_name", kind.__name__)
    return name in ("Embedding", "EmbeddingBag") and hasattr(module, "num_embeddings")


def _is_plain_lookup(module: nn.Module) -> bool:
    """Return whether a module behaves as its class in torch.nn."""
    if "forward" in vars(module):
        return False
    own = {key for kind in type(module).__mro__ if _is_subclass(kind) for key in vars(kind)}
    return own <= _CONSTRUCTION


def _is_subclass(kind: type) -> bool:
    """Return whether a class is neither torch's embedding nor one of its bases."""
    return kind not in nn.Embedding.__mro__ and kind not in nn.EmbeddingBag.__mro__


def _refusal(module: nn.Embedding | nn.EmbeddingBag, load: bool) -> str | None:
    """Return the reason why a store cannot serve a module, or None."""
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


def _name_tables(weights: Sequence[_Weight], prefix: str, names: Mapping[str, str]) -> None:
    known = {path for weight in weights for path in weight.paths}
    if unknown := sorted(names.keys() - known):
        raise ValueError(f"names: expected paths of embeddings, {sorted(known)}, got {unknown}")
    for weight in weights:
        chosen = [names[path] for path in weight.paths if path in names]
        weight.table = chosen[0] if chosen else prefix + weight.paths[0] or "embedding"


def _check_tables(weights: Sequence[_Weight], store: TieredStore, load: bool) -> None:
    """Raise ValueError if the tables cannot be created or, without `load`, used."""
    tables = store.tables
    taken = set(tables)
    for weight in weights:
        name = weight.table
        if not load:
            if name not in tables:
                raise ValueError(
                    f"module {weight.paths[0]!r}: expected a table {name!r} in the store, got "
                    f"{', '.join(tables) or 'none'}"
                )
            rows, dim = weight.tensor.shape
            existing_table(store, name, (rows, dim), weight.tensor.dtype)
        elif name in taken:
            raise ValueError(
                f"module {weight.paths[0]!r}: the name {name!r} of its table is taken; pass names= "
                "or prefix=, or load=False to use the store's tables unchanged"
            )
        elif not 1 <= len(name.encode()) <= _MAX_NAME_BYTES:
            raise ValueError(
                f"table {name!r}: expected a name of 1 to {_MAX_NAME_BYTES} bytes, got "
                f"{len(name.encode())} bytes; pass names="
            )
        taken.add(name)


def _replacement(
    module: nn.Embedding | nn.EmbeddingBag, store: TieredStore, table: str
) -> TieredEmbedding | TieredEmbeddingBag:
    """Return the module on a table that replaces a module of torch."""
    rows, dim = module.weight.shape
    shared: dict[str, Any] = {
        "padding_idx": module.padding_idx,
        "norm_type": module.norm_type,
        "scale_grad_by_freq": module.scale_grad_by_freq,
        "sparse": module.sparse,
        "store": store,
        "name": table,
    }
    new: TieredEmbedding | TieredEmbeddingBag
    if isinstance(module, nn.EmbeddingBag):
        new = TieredEmbeddingBag(
            rows,
            dim,
            mode=module.mode,
            include_last_offset=module.include_last_offset,
            **shared,
        )
    else:
        new = TieredEmbedding(rows, dim, **shared)
    _take_over(new, module)
    return new


def _collection_replacements(
    model: nn.Module, replacements: Mapping[int, nn.Module]
) -> dict[int, nn.Module]:
    """Return the replacements of torchrec's collections, given those of their bags."""
    collections: dict[int, nn.Module] = {}
    for module in model.modules():
        if not is_collection(module):
            continue
        old: Any = module
        bags = {name: replacements.get(id(bag)) for name, bag in old.embedding_bags.items()}
        tiered = {name: bag for name, bag in bags.items() if isinstance(bag, TieredEmbeddingBag)}
        if len(tiered) == len(bags) and is_one_call(old):
            configs = list(old.embedding_bag_configs())
            new = TieredEmbeddingBagCollection(
                tiered,
                old.is_weighted(),
                feature_names=[config.feature_names for config in configs],
            )
            new._configs = configs
            _take_over(new, module)
            collections[id(module)] = new
    return collections


def _take_over(new: nn.Module, old: nn.Module) -> None:
    """Copy the training flag, the hooks and the attributes of the old module."""
    vars(new).update(
        {
            key: value
            for key, value in vars(old).items()
            if (key not in vars(new) or key.startswith(_KEPT)) and key not in _DROPPED
        }
    )

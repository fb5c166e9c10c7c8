"""Swapping the embedding modules of a model for tiered ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tieralloc.nn._embeddings import (
    TieredEmbedding,
    TieredEmbeddingBag,
    check_loadable,
    check_rows,
    existing_table,
    name_of,
)
from tieralloc.nn._tensors import chunks_of
from tieralloc.nn._torchrec import KeyedCollection, can_be_one_call, is_collection
from tieralloc.store import TieredStore

_MAX_NAME_BYTES = 191

# State of torch's modules, by how its names begin, that a new module takes over: the hooks are the
# same dictionaries, so that their handles still remove them.
_KEPT = ("training", "_forward_", "_backward_", "_is_full_backward_hook")
_DROPPED = ("_compiled_call_impl",)  # what Module.compile made: it would run the old module

# What a subclass may define and still be swapped: it matters only while a module is being made.
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
    """Swap every embedding module of a model for a tiered one on a table of a store.

    `torch.nn.Embedding` and `torch.nn.EmbeddingBag` anywhere in the model are swapped in place,
    and nothing else. Their rows are copied to the tables some MiB at a time; the model lets go of
    its own at the end, when all are there. The new modules keep the training flag, the forward
    and backward hooks and the attributes of those that they replace.

    The model's outputs stay what they were: bit for bit where rows are looked up, or summed in
    float32 (without both weights and a `padding_idx`), and to rounding elsewhere. Code of the
    model that reads the `weight` of an embedding itself gets an AttributeError.

    A module that stands in several places, or several whose weight is one parameter, get one table.
    A parameter that other modules use too, such as the weight of a tied output layer, stays theirs
    and stays in memory.

    An ``EmbeddingBagCollection`` of torchrec's becomes a `TieredEmbeddingBagCollection` that takes
    and returns what it did, and serves all of its tables in one call. Where its tables differ in
    pooling, or cannot be of one result, it stays, and the bags in it are swapped.

    Subclasses are swapped where they define no more than how they are made. One that behaves
    otherwise in any way, and a module whose `forward` was replaced, stay as they are, with a
    warning.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, not in use by another thread.
    store : TieredStore
    prefix : str
        Stands before the module's path in the table's name: "emb.0" of a model becomes the table
        ``prefix + "emb.0"``. A model that is itself an embedding has the path "", and its table
        the name `prefix`, or "embedding" without one.
    names : mapping of str to str, optional
        Names of tables, by the paths of the modules that are to have another than that.
    load : bool
        Whether to make the tables and copy the rows. Otherwise the store must have the tables
        already, and they are served as they stand, so that a model may be attached to a store
        that was made before: its own weights are not looked at and may be on the meta device.

    Returns
    -------
    torch.nn.Module
        `model`; the new module where `model` is itself an embedding.

    Raises
    ------
    ValueError
        Before anything is done, for modules that cannot be served (naming each and why:
        `max_norm`, which changes rows at lookup; weights on another device, quantised, of a dtype
        that tables have not, or made of other parameters), tables that there are already or, with
        ``load=False``, that there are not or that do not fit, and a closed store.
    TypeError
        Where `model` or `store` is of another type.
    OSError, ValueError, MemoryError
        As for `TieredStore.create_table` and `Table.load`. The model is as it was then; tables
        made by then stay in the store's file, which cannot drop any.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}, expected torch.nn.Module")
    if not isinstance(store, TieredStore):
        raise TypeError(f"store is of type {type(store).__name__}, expected TieredStore")
    if store.closed:
        raise ValueError("the store is closed, expected an open one")
    places = _find(model, load)
    _name(places, prefix, names or {})
    _check_tables(places, store, load)
    if load:
        for place in places:
            rows, dim = place.weight.shape
            store.create_table(place.table, rows, dim, name_of(place.weight.dtype))
        for place in places:
            store.table(place.table).load(chunks_of(place.weight))
    swaps: dict[int, nn.Module] = {
        id(module): _tiered(module, store, place.table)
        for place in places
        for module in place.modules
    }
    swaps |= _keyed(model, swaps)
    # Not by setattr, which a model may have redefined: from here on nothing may fail.
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            parent._modules[key] = swaps.get(id(child), child)
    return swaps.get(id(model), model)


@dataclass
class _Place:
    """A weight, the modules whose it is, their paths, and the name of its table."""

    weight: Tensor
    modules: list[nn.Embedding | nn.EmbeddingBag] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    table: str = ""


def _find(model: nn.Module, load: bool) -> list[_Place]:
    """Return what is to be swapped; ValueError, naming all of it, where some cannot be."""
    places: dict[int, _Place] = {}
    refused = []
    left = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            if _was_embedding(module):
                refused.append(f"{path!r}: it is scripted or quantised; convert it before that")
        elif not _only_looks_up(module):
            left.append(f"{path!r} (a {type(module).__qualname__})")
        elif reason := _refusal(module, load):
            refused.append(f"{path!r}: {reason}")
        else:
            place = places.setdefault(id(module.weight), _Place(module.weight))
            place.modules.append(module)
            place.paths.append(path)
    if refused:
        raise ValueError("cannot convert module " + "; ".join(refused))
    if left:
        warnings.warn(
            f"not converted, as they redefine what a lookup does: {', '.join(left)}", stacklevel=3
        )
    return list(places.values())


def _was_embedding(module: nn.Module) -> bool:
    kind = type(module)
    quantised = kind.__module__.startswith("torch.ao.nn.quantized")
    if not (quantised or isinstance(module, torch.jit.ScriptModule)):
        return False
    name = getattr(module, "original_name", kind.__name__)
    return name in ("Embedding", "EmbeddingBag") and hasattr(module, "num_embeddings")


def _only_looks_up(module: nn.Module) -> bool:
    """Whether a module does what its class in torch.nn does."""
    if "forward" in vars(module):
        return False
    own = {key for kind in type(module).__mro__ if _is_subclass(kind) for key in vars(kind)}
    return own <= _CONSTRUCTION


def _is_subclass(kind: type) -> bool:
    """Whether a class is neither torch's embedding nor one that it is made of."""
    return kind not in nn.Embedding.__mro__ and kind not in nn.EmbeddingBag.__mro__


def _refusal(module: nn.Embedding | nn.EmbeddingBag, load: bool) -> str | None:
    """Return why a module cannot be served, if it cannot."""
    if set(module._parameters) != {"weight"} or module._buffers or module._modules:
        names = ", ".join([*module._parameters, *module._buffers, *module._modules])
        return f"it holds {names}, expected a weight of its own and nothing else"
    if module.max_norm is not None:
        return f"max_norm is {module.max_norm}, expected None: lookups do not change rows"
    try:
        (check_loadable if load else check_rows)(module.weight)
    except ValueError as error:
        return str(error)
    return None


def _name(places: Sequence[_Place], prefix: str, names: Mapping[str, str]) -> None:
    """Give each place the name of its table."""
    known = {path for place in places for path in place.paths}
    if unknown := sorted(names.keys() - known):
        raise ValueError(f"names has {unknown}, expected paths of embeddings: {sorted(known)}")
    for place in places:
        named = [names[path] for path in place.paths if path in names]
        place.table = named[0] if named else prefix + place.paths[0] or "embedding"


def _check_tables(places: Sequence[_Place], store: TieredStore, load: bool) -> None:
    """Raise ValueError where the tables to be made or served cannot be."""
    tables = store.tables
    taken = set(tables)
    for place in places:
        name = place.table
        if not load:
            if name not in tables:
                raise ValueError(
                    f"module {place.paths[0]!r} has no table {name!r} in the store, which has: "
                    f"{', '.join(tables) or 'none'}"
                )
            rows, dim = place.weight.shape
            existing_table(store, name, (rows, dim), place.weight.dtype)
        elif name in taken:
            raise ValueError(
                f"module {place.paths[0]!r} needs a table {name!r}, of which there is one already; "
                "pass names= or prefix=, or load=False to serve the store's as it stands"
            )
        elif not 1 <= len(name.encode()) <= _MAX_NAME_BYTES:
            raise ValueError(
                f"table name {name!r} has {len(name.encode())} bytes, expected 1 to "
                f"{_MAX_NAME_BYTES}; pass names="
            )
        taken.add(name)


def _tiered(
    module: nn.Embedding | nn.EmbeddingBag, store: TieredStore, table: str
) -> TieredEmbedding | TieredEmbeddingBag:
    """Make the module that takes another one's place."""
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


def _keyed(model: nn.Module, swaps: Mapping[int, nn.Module]) -> dict[int, nn.Module]:
    """Make what takes the places of torchrec's collections, of the modules on their tables."""
    made: dict[int, nn.Module] = {}
    for module in model.modules():
        if is_collection(module):
            collection: Any = module
            bags = [swaps.get(id(bag)) for bag in collection.embedding_bags.values()]
            own = [bag for bag in bags if isinstance(bag, TieredEmbeddingBag)]
            if len(own) == len(bags) and can_be_one_call(collection):
                new = KeyedCollection(collection, own)
                _take_over(new, module)
                made[id(module)] = new
    return made


def _take_over(new: nn.Module, module: nn.Module) -> None:
    """Give a module the training flag, the hooks and the attributes of the one it replaces."""
    vars(new).update(
        {
            key: value
            for key, value in vars(module).items()
            if (key not in vars(new) or key.startswith(_KEPT)) and key not in _DROPPED
        }
    )

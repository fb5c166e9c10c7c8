"""`convert`: replace the embedding modules of a model by modules on a store.

The steps: find all weights, check all names, create and load all tables, replace
the modules. A failure in a step before the last one leaves the model unchanged.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tieralloc._common.values import QUANTISED
from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._embeddings import TieredEmbedding, TieredEmbeddingBag
from tieralloc.nn._hooks import attach_requests
from tieralloc.nn._loading import Loading, set_tensors
from tieralloc.nn._modules import TieredModule
from tieralloc.nn._quantised import QuantisedBag, is_quantised_collection, quantised_bags
from tieralloc.nn._replace import replace_modules, take_over
from tieralloc.nn._streams import Checkpoint
from tieralloc.nn._summary import (
    Conversion,
    ModuleConversion,
    kept_module,
    kind_of,
    reason_to_keep,
)
from tieralloc.nn._tables import dtype_name, existing_table
from tieralloc.nn._tensors import row_chunks
from tieralloc.nn._torchrec import is_collection, is_one_call
from tieralloc.store import TieredStore
from tieralloc.table import check_writable

_MAX_NAME_BYTES = 191


def convert(
    model: nn.Module,
    store: TieredStore,
    *,
    prefix: str = "",
    names: Mapping[str, str] | None = None,
    dtype: Literal["int8", "int4"] | None = None,
    load: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> Conversion:
    """Replace the embedding modules of a model by tiered modules; return and print a summary.

    Replaced are `torch.nn.Embedding` and `torch.nn.EmbeddingBag` anywhere in the model, in place,
    and no other modules. `convert` copies the rows to the tables some MiB at a time. The model
    releases its own rows at the end, after all tables are loaded. The new modules keep the
    training flag, the forward and backward hooks, and the attributes of the old modules.
    `restore` reverses the conversion.

    The outputs of the model stay the same: bit for bit for lookups and for sums in float32
    (except with both weights and a `padding_idx`), to rounding otherwise. Code of the model that
    reads the `weight` of an embedding gets an AttributeError.

    One table serves a module at several places in the model, and modules that share one weight.
    A weight that other modules also use, such as a tied output layer, stays in memory for them.

    An ``EmbeddingBagCollection`` of torchrec becomes a `TieredEmbeddingBagCollection`, which
    serves all its tables in one call. If one call cannot give the same result, for example
    because the pooling modes differ, the collection stays and its bags are replaced. That of
    ``torchrec.quant`` is converted, too: its rows are copied byte for byte, and outputs from rows
    of int8 and int4 stay the same bit for bit (see `Table`).

    Subclasses are replaced if they redefine only their construction. Embeddings that a store cannot
    serve stay unchanged, with a warning and a line in the summary that say why: other subclasses,
    a replaced `forward`, `max_norm`, a weight that is quantised by torch, computed from other
    parameters, on another device or of an unsupported dtype, and the embeddings of FBGEMM and
    torchrec's others.

    The model stays one for inference. Its results follow ``.to(dtype)``, ``.half()`` and so on;
    the rows keep their dtype. ``torch.compile`` and ``torch.export`` see an operator in each new
    module (`attach`); TorchScript raises RuntimeError. The rows do not
    train: in training mode, the backward pass of a result raises RuntimeError, unless the weight
    was frozen (``requires_grad=False``) or ``requires_grad_(False)`` was called on the new module.
    The state dict has references to tables instead of rows (`references`); `state_dict` returns
    whole checkpoints, and ``load_state_dict`` loads both. ``copy.deepcopy`` shares the store.

    `TieredStore.record` records each forward pass of `model` as one call: sample b has bag b of
    every module. `batch_lookups` also serves it as one call.

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
    dtype : {"int8", "int4"}, optional
        Quantise the rows, each with a scale and a bias of its own; results keep the dtype of the
        module. By default the rows keep their dtype. Rows that are quantised already are copied.
    load : bool
        Whether to create the tables and copy the rows. With False, the store must already have
        the tables, which the model then uses unchanged. `convert` then does not read the model's
        own weights; they may be on the meta device.
    checkpoint : path, optional
        Load the rows from this checkpoint, some MiB at a time, instead of from the model, which may
        be on the meta device: a file of safetensors or of `torch.save` (zip format), a folder of
        safetensors or of ``KEY.npy``, or one of torch.distributed.checkpoint. Keys are those of
        ``model.state_dict()``, also below "model.", "module." or "state_dict.". Other parameters
        and buffers on the meta device are filled, too, if the checkpoint has them. A file beside
        the store's, with the suffix ".convert", says which rows are loaded: after an interruption,
        the same call goes on there.
    verbose : bool
        Whether to print the summary, and the progress of a long load from a checkpoint.

    Returns
    -------
    Conversion
        The summary; `str` gives the table. Its `model` is `model`, or the new module if `model` is
        itself an embedding.

    Raises
    ------
    ValueError
        Before anything changes, for a closed store; if there is nothing to convert, with the reason
        for each embedding; for tables that already exist; and, with ``load=False``, for tables
        that are missing or do not match. For a checkpoint: if a tensor is missing, not dense, or
        of another shape, or the checkpoint has changed since the load that was interrupted.
    TypeError
        For a `model` or `store` of another type.
    OSError, ValueError, MemoryError
        As for `TieredStore.create_table` and `Table.load`. The model is unchanged; tables that
        were already created stay in the store's file, which cannot drop tables.

    Examples
    --------
    >>> store = TieredStore("model.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.EmbeddingBag(1000, 16), nn.Linear(16, 1))
    >>> summary = convert(model, store)
    module  table  dtype     rows    bytes  converted
    0       0      float32  1,000  64.0 kB  yes
    1 of 1 embeddings converted: 64.0 kB of rows are in the store
    >>> type(model[0]).__name__
    'TieredEmbeddingBag'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got a {type(model).__name__}")
    if not isinstance(store, TieredStore):
        raise TypeError(f"store: expected a TieredStore, got a {type(store).__name__}")
    if store.closed:
        raise ValueError("store: expected an open store, got a closed one")
    if dtype is not None and dtype not in QUANTISED:
        raise ValueError(f"dtype: expected one of {', '.join(QUANTISED)} or None, got {dtype!r}")
    loading = _loading_of(checkpoint, store, load)
    weights, kept = _find_weights(model, load and loading is None, dtype)
    _check_found(model, weights, kept)
    _name_tables(weights, prefix, names or {})
    _check_tables(weights, store, load, loading)
    dense = {} if loading is None else _load_checkpoint(model, weights, loading, verbose)
    if load and loading is None:
        for weight in weights:
            store.create_table(weight.table, *weight.shape, weight.dtype)
        for weight in weights:
            store.table(weight.table).load(weight.chunks())
    replacements: dict[nn.Module, nn.Module] = {
        module: weight.replacement(module, store) for weight in weights for module in weight.modules
    }
    replacements |= _collection_replacements(model, replacements)
    converted = [entry for weight in weights for entry in weight.entries(store)]
    order = {path: place for place, (path, _) in enumerate(model.named_modules())}
    entries = sorted([*converted, *kept], key=lambda entry: order[entry.path])
    set_tensors(dense)
    new = replace_modules(model, replacements)
    if loading is not None:
        loading.end()
    if not isinstance(new, TieredModule):
        attach_requests(new)
    conversion = Conversion(new, tuple(entries))
    if kept:
        warnings.warn(
            f"not converted: {'; '.join(f'{one.path!r}: {one.reason}' for one in kept)}",
            stacklevel=2,
        )
    if verbose:
        print(conversion)
    return conversion


@dataclass
class _Weight:
    """A weight, the modules that use it with their paths, and its table."""

    tensor: Tensor  # rows of floats, or quantised rows
    shape: tuple[int, int]
    dtype: str  # of the table
    modules: list[nn.Module] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    table: str = ""
    quantised: QuantisedBag | None = None  # the table of torchrec.quant that it is

    def entries(self, store: TieredStore) -> list[ModuleConversion]:
        """Return the lines of its modules in the summary."""
        rows = len(self.tensor)
        num_bytes = rows * store.table(self.table).row_bytes
        return [
            ModuleConversion(path, kind_of(module), self.table, rows, num_bytes, dtype=self.dtype)
            for path, module in zip(self.paths, self.modules, strict=True)
        ]

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Yield the rows for `Table.load`."""
        quantises = self.dtype in QUANTISED and self.tensor.is_floating_point()
        return row_chunks(self.tensor, torch.float32 if quantises else None)

    def replacement(
        self, module: nn.Module, store: TieredStore
    ) -> TieredEmbedding | TieredEmbeddingBag:
        """Return the module on the table that replaces a module."""
        if self.quantised is not None:
            mode = self.quantised.mode
            return TieredEmbeddingBag(
                *self.shape, mode=mode, include_last_offset=True, store=store, name=self.table
            )
        assert isinstance(module, nn.Embedding | nn.EmbeddingBag)
        new = _replacement(module, store, self.table)
        if module.weight.dtype is not new.dtype:
            new.dtype, new._is_cast = module.weight.dtype, True
        return new


def _loading_of(
    checkpoint: str | os.PathLike[str] | None, store: TieredStore, load: bool
) -> Loading | None:
    if checkpoint is None:
        return None
    if not load:
        raise ValueError(f"checkpoint: no effect with load=False; expected None, got {checkpoint}")
    check_writable(store, "convert")
    return Loading(Checkpoint(checkpoint), store)


def _load_checkpoint(
    model: nn.Module, weights: Sequence[_Weight], loading: Loading, verbose: bool
) -> dict[tuple[nn.Module, str], Tensor]:
    """Load the tables; return the other tensors of the model that are on the meta device."""
    loading.plan(weights)
    embeddings = {module for weight in weights for module in weight.modules}
    dense = loading.dense_tensors(model, embeddings)
    loading.run(weights, verbose)
    return dense


def _find_weights(
    model: nn.Module, load: bool, dtype: str | None
) -> tuple[list[_Weight], list[ModuleConversion]]:
    """Return the weights to move, and the embeddings that stay, with the reason."""
    weights: dict[int, _Weight] = {}
    kept = []
    inner: set[nn.Module] = set()  # modules of FBGEMM in a collection
    for path, module in model.named_modules():
        if module in inner:
            continue
        reason = reason_to_keep(module, load)
        if reason is not None:
            kept.append(kept_module(path, module, reason))
        elif is_quantised_collection(module):
            inner |= set(module.modules())
            for weight in _quantised_weights(path, module):
                weights[id(weight)] = weight
        elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
            rows, dim = module.weight.shape
            kind = dtype or dtype_name(module.weight.dtype)
            new = _Weight(module.weight, (rows, dim), kind)
            weight = weights.setdefault(id(module.weight), new)
            weight.modules.append(module)
            weight.paths.append(path)
    # Of modules inside each other, the outermost names them all.
    roots = {f"{entry.path}." for entry in kept}
    outermost = [entry for entry in kept if not any(map(entry.path.startswith, roots - {""}))]
    return list(weights.values()), outermost


def _quantised_weights(path: str, collection: Any) -> list[_Weight]:
    """Return the tables of a collection of torchrec.quant, named as those of torchrec's own."""
    inside = f"{path}.embedding_bags." if path else "embedding_bags."
    return [
        _Weight(
            bag.rows,
            bag.shape,
            bag.dtype,
            [collection.embedding_bags[bag.name]],
            [inside + bag.name],
            quantised=bag,
        )
        for bag in quantised_bags(collection)
    ]


def _check_found(
    model: nn.Module, weights: Sequence[_Weight], kept: Sequence[ModuleConversion]
) -> None:
    if weights:
        return
    reasons = [f"{entry.path!r}: {entry.reason}" for entry in kept]
    if any(isinstance(module, TieredModule) for module in model.modules()):
        reasons.insert(0, "it is converted already")
    raise ValueError(
        "model: nothing to convert; expected a torch.nn.Embedding, a torch.nn.EmbeddingBag or an "
        f"EmbeddingBagCollection of torchrec, got a {type(model).__name__}"
        f"{': ' if reasons else ' without embeddings'}{'; '.join(reasons)}"
    )


def _name_tables(weights: Sequence[_Weight], prefix: str, names: Mapping[str, str]) -> None:
    known = {path for weight in weights for path in weight.paths}
    if unknown := sorted(names.keys() - known):
        raise ValueError(f"names: expected paths of embeddings, {sorted(known)}, got {unknown}")
    for weight in weights:
        chosen = [names[path] for path in weight.paths if path in names]
        weight.table = chosen[0] if chosen else prefix + weight.paths[0] or "embedding"


def _check_tables(
    weights: Sequence[_Weight], store: TieredStore, load: bool, loading: Loading | None
) -> None:
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
            existing_table(store, name, weight.shape, weight.dtype)
        elif loading is not None and loading.has_begun(name) and name in tables:
            existing_table(store, name, weight.shape, weight.dtype)
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
    new._is_trainable = module.weight.requires_grad
    take_over(new, module)
    return new


def _collection_replacements(
    model: nn.Module, replacements: Mapping[nn.Module, nn.Module]
) -> dict[nn.Module, nn.Module]:
    """Return the replacements of torchrec's collections, given those of their bags."""
    collections: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        old: Any = module
        if is_quantised_collection(module) and reason_to_keep(module, True) is None:
            collections[module] = _quantised_replacement(old, replacements)
        if not is_collection(module):
            continue
        bags = {name: replacements.get(bag) for name, bag in old.embedding_bags.items()}
        tiered = {name: bag for name, bag in bags.items() if isinstance(bag, TieredEmbeddingBag)}
        if len(tiered) == len(bags) and is_one_call(old):
            configs = list(old.embedding_bag_configs())
            new = TieredEmbeddingBagCollection(
                tiered,
                old.is_weighted(),
                feature_names=[config.feature_names for config in configs],
            )
            new._configs = configs
            take_over(new, module)
            collections[module] = new
    return collections


def _quantised_replacement(
    old: Any, replacements: Mapping[nn.Module, nn.Module]
) -> TieredEmbeddingBagCollection:
    configs = old.embedding_bag_configs()
    bags = {config.name: replacements[old.embedding_bags[config.name]] for config in configs}
    tiered = {name: bag for name, bag in bags.items() if isinstance(bag, TieredEmbeddingBag)}
    new = TieredEmbeddingBagCollection(
        tiered, old.is_weighted(), feature_names=[config.feature_names for config in configs]
    )
    for module in (new, *tiered.values()):
        module.dtype, module._is_cast = old.output_dtype(), True
    take_over(new, old, attributes=False)
    return new

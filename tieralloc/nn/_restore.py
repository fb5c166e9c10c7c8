"""`restore`: the reverse of `convert`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tieralloc._common.held_core import HeldCore
from tieralloc.nn._checkpoints import read_rows
from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._embeddings import TieredEmbedding, TieredEmbeddingBag
from tieralloc.nn._hooks import remove_requests
from tieralloc.nn._modules import TableModule, TieredModule
from tieralloc.nn._replace import replace_modules, take_over
from tieralloc.nn._torchrec import collection_type
from tieralloc.table import Table


def restore(model: nn.Module) -> nn.Module:
    """Replace every tiered module of a model by torch's module, with the rows of its table.

    The reverse of `convert`, in place: to train, to export, or to move the model to another device.
    The weights are equal bit for bit to the rows of the store, updates included, and are read some
    MiB at a time; all of them must fit into DRAM. Quantised rows are dequantised. The store keeps
    its tables.

    Modules on one table share a weight. A weight is frozen if it was before `convert`, or if the
    tiered module was. It has the dtype of the table, or the one of a ``.to(dtype)`` of the
    converted model. A `TieredEmbeddingBagCollection` becomes torchrec's collection of floats.
    Training flags, hooks and attributes are kept. Subclasses that `convert` replaced become torch's
    own modules, and a weight that was tied to another layer's is a copy of it.

    Parameters
    ----------
    model : torch.nn.Module
        Not in use by another thread.

    Returns
    -------
    torch.nn.Module
        `model`, or the new module if `model` is itself tiered.

    Raises
    ------
    ValueError
        For a model without tiered modules, a closed store, or a collection that torchrec does not
        have. The model is unchanged.
    ImportError
        For a collection, if torchrec is not installed. The model is unchanged.
    OSError
        If a row cannot be read. The model is unchanged.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("restore.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 1))
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> ta.nn.restore(model)[0]
    Embedding(1000, 16)
    """
    tiered = [module for module in model.modules() if isinstance(module, TieredModule)]
    if not tiered:
        raise ValueError(
            f"model: expected a converted model, got a {type(model).__name__} without tiered "
            "modules"
        )
    weights: dict[tuple[Table, torch.dtype], nn.Parameter] = {}
    replacements: dict[nn.Module, nn.Module] = {
        module: _torch_module(module, weights)
        for module in tiered
        if isinstance(module, TableModule)
    }
    for module in tiered:
        if isinstance(module, TieredEmbeddingBagCollection):
            replacements[module] = _torchrec_collection(module, replacements)
    remove_requests(model)
    return replace_modules(model, replacements)


def _torch_module(
    module: TableModule, weights: dict[tuple[Table, torch.dtype], nn.Parameter]
) -> nn.Module:
    key = (module.table, module.dtype)
    if key not in weights:
        with HeldCore(module.table.store) as held:
            rows = read_rows(module.table, held).to(module.dtype)
        weights[key] = nn.Parameter(rows, requires_grad=module._is_trainable)
    options: dict[str, Any] = {
        "padding_idx": module.padding_idx,
        "norm_type": module.norm_type,
        "scale_grad_by_freq": module.scale_grad_by_freq,
        "sparse": module.sparse,
        "_weight": weights[key],
    }
    shape = (module.num_embeddings, module.embedding_dim)
    new: nn.Embedding | nn.EmbeddingBag
    if isinstance(module, TieredEmbeddingBag):
        last = module.include_last_offset
        new = nn.EmbeddingBag(*shape, mode=module.mode, include_last_offset=last, **options)
    else:
        assert isinstance(module, TieredEmbedding)
        new = nn.Embedding(*shape, **options)
    new.weight = weights[key]
    take_over(new, module)
    return new


def _torchrec_collection(
    module: TieredEmbeddingBagCollection, replacements: dict[nn.Module, nn.Module]
) -> nn.Module:
    new: nn.Module = collection_type()(
        tables=module.embedding_bag_configs(),
        is_weighted=module.is_weighted(),
        device=torch.device("meta"),  # its own weights would take memory
    )
    vars(new)["_device"] = module.device
    new.get_submodule("embedding_bags")._modules.update(
        {name: replacements[bag] for name, bag in module.embedding_bags.items()}
    )
    take_over(new, module)
    return new

"""The names by which graphs refer to stores.

A graph of torch.compile has the handle of a store, which is unique in the process. A program of
torch.export has the store's public name: that of its file, or the one of the last `attach`.

Concurrency: any thread may look up, attach and trace; a lock guards the tables of names.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from tieralloc.store import TieredStore

_NAMESPACE = "tieralloc::"
_lock = threading.Lock()
_stores: weakref.WeakValueDictionary[str, TieredStore] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[TieredStore, StoreNames] = weakref.WeakKeyDictionary()
_numbers = count(1)


@dataclass(eq=False)
class StoreNames:
    """The names of a store in graphs; no public name while another open store has it."""

    handle: str
    public: str | None


def names_of(store: TieredStore) -> StoreNames:
    """Return the names of a store; the first call attaches it under both."""
    with _lock:
        names = _names.get(store)
        if names is None:
            public = os.path.basename(store._path) if store._path else "memory"
            names = StoreNames(f"{public}#{next(_numbers)}", public)
            if _other_store(public, store) is not None:
                names.public = None
            else:
                _stores[public] = store
            _stores[names.handle] = store
            _names[store] = names
        return names


def _other_store(name: str, store: TieredStore) -> TieredStore | None:
    """Return the open store that has a name already, if it is another one."""
    former = _stores.get(name)
    return former if former is not None and former is not store and not former.closed else None


def attached_store(name: str) -> TieredStore:
    """Return the store of a name; RuntimeError for an unknown one."""
    store = _stores.get(name)
    if store is None:
        raise RuntimeError(
            f"store {name!r}: not attached; expected a call of tieralloc.nn.attach({name!r}, "
            "store) before the program runs, and an open store"
        )
    return store


def attach(program: torch.export.ExportedProgram | str, store: TieredStore) -> None:
    """Serve the lookups of an exported program from a store of this process.

    A program of ``torch.export`` has the name of its store: that of the store's file without the
    folder, or the name of the last ``attach(name, store)`` before the export. Attach the name
    before the program runs. The process that exported it has attached the store already.

    Parameters
    ----------
    program : torch.export.ExportedProgram or str
        The program, all of whose lookups are in one store; or the name, for a program whose graph
        is compiled (AOTInductor).
    store : TieredStore
        With the tables of the program, by name. The caller keeps it open: a name does not keep it
        from being garbage-collected. A name of an open store can be attached to another one: later
        calls of all programs with this name go there.

    Raises
    ------
    ValueError
        If the program has no lookups or several stores, or the store is closed or has other tables.
    TypeError
        For arguments of other types.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("attached.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.EmbeddingBag(1000, 16), nn.Linear(16, 1)).eval()
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> bags = torch.tensor([[3, 1, 4]])
    >>> program = torch.export.export(model, (bags,))
    >>> ta.nn.attach(program, store)  # in the process that loads the program
    >>> program.module()(bags).shape
    torch.Size([1, 1])
    """
    if not isinstance(store, TieredStore):
        raise TypeError(f"store: expected a TieredStore, got an object of {type(store).__name__}")
    if store.closed:
        raise ValueError("store: expected an open store, got a closed one")
    if isinstance(program, str):
        name = program
    elif isinstance(program, torch.export.ExportedProgram):
        name = _checked_name(program, store)
    else:
        raise TypeError(
            "program: expected an ExportedProgram or the name of its store, got "
            f"{type(program).__name__}"
        )
    names = names_of(store)
    with _lock:
        former = _stores.get(name)
        if former is not None and former is not store and _names[former].public == name:
            _names[former].public = None
        _stores[name] = store
        names.public = name


def _checked_name(program: torch.export.ExportedProgram, store: TieredStore) -> str:
    """Return the name of the store of a program, whose tables `store` has."""
    found = set()
    for options in _lookups(program):
        found.add(options["store"])
        positions_of_names(store, options["tables"], options["dims"])
    if len(found) != 1:
        raise ValueError(
            f"program: expected lookups in one store, got {sorted(found) or 'none'}; attach each "
            "name: attach(name, store)"
        )
    return str(found.pop())


def _lookups(program: torch.export.ExportedProgram) -> Iterator[dict[str, Any]]:
    """Yield the options of the lookups of a program, its parts included."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                if node.op == "call_function" and str(node.target).startswith(
                    ("tieralloc.", _NAMESPACE)
                ):
                    yield node.kwargs


def positions_of_names(
    store: TieredStore, tables: Sequence[str], dims: Sequence[int]
) -> Sequence[int]:
    """Return the positions of a graph's tables in a store; ValueError for other tables."""
    positions = []
    for name, dim in zip(tables, dims, strict=True):
        table = store._tables.get(name)
        if table is None or table.embedding_dim != dim:
            got = ", ".join(store._tables) or "none" if table is None else repr(table)
            raise ValueError(
                f"table {name!r}: the graph expects rows of {dim} elements in the attached store, "
                f"got {got}"
            )
        positions.append(table.position)
    return positions

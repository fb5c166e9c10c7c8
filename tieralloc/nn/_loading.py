"""Tables loaded from a checkpoint on disk, and where an interrupted load goes on.

A file beside the store's, `PATH.convert`, has the tables of the load, the rows of each that are
durable, and what identifies the checkpoint and the store. It is written before the tables are
created and after each segment of rows, and removed once the model is converted. Rows of a segment
without an entry are loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from tieralloc._common import progress
from tieralloc._common.files import write_durably
from tieralloc._common.values import QUANTISED
from tieralloc.nn._streams import Checkpoint, StoredTensor
from tieralloc.nn._tensors import DTYPES, row_array
from tieralloc.store import TieredStore

_FORMAT = 1
_SEGMENT_BYTES = 256 << 20  # of rows that are loaded again after a crash, at most


class _Weight(Protocol):
    shape: tuple[int, int]
    dtype: str
    paths: list[str]
    table: str


class Loading:
    """The load of a checkpoint into the tables of a store."""

    def __init__(self, checkpoint: Checkpoint, store: TieredStore) -> None:
        self.checkpoint = checkpoint
        self._store = store
        self._path = None if store._path is None else Path(f"{store._path}.convert")
        self._rows: dict[str, int] = {}  # durable rows of each table
        self._keys: dict[str, str] = {}
        self._stored: dict[str, StoredTensor] = {}
        self._former = self._read_former()

    def _read_former(self) -> Mapping[str, Any]:
        """Return the tables of the load that this one goes on with; ValueError if it cannot."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            state = json.loads(self._path.read_text())
            is_known = state["format"] == _FORMAT
            store_id, fingerprint, tables = state["store"], state["checkpoint"], state["tables"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: damaged; delete it and the store's file") from error
        if not is_known or store_id != self._store.store_id:
            return {}  # of a store that this file replaced
        if fingerprint != self.checkpoint.fingerprint:
            raise ValueError(
                f"{self.checkpoint.path}: changed since the interrupted load that {self._path} "
                "describes; expected the same files, or a new store"
            )
        return dict(tables)

    def has_begun(self, table: str) -> bool:
        """Return whether the interrupted load created this table."""
        return table in self._former

    def plan(self, weights: Sequence[_Weight]) -> None:
        """Find the rows of all weights; ValueError for one that the checkpoint does not have."""
        for weight in weights:
            keys = [f"{path}.weight" if path else "weight" for path in weight.paths]
            found = self.checkpoint.find(keys)
            if found is None:
                raise ValueError(
                    f"{self.checkpoint.path}: expected a tensor {keys[0]!r}, dense and in row "
                    f"order, got {', '.join(sorted(self.checkpoint.tensors)[:20])}"
                )
            key, stored = found
            if stored.shape != weight.shape or stored.dtype not in DTYPES:
                raise ValueError(
                    f"{self.checkpoint.path}: {key!r}: expected floats of shape {weight.shape}, "
                    f"got {stored.dtype} of shape {stored.shape}"
                )
            former = self._former.get(weight.table, {"key": key, "rows": 0})
            if former["key"] != key:
                raise ValueError(
                    f"table {weight.table!r}: the interrupted load took {former['key']!r} for it, "
                    f"got {key!r}; expected the names of that load"
                )
            self._keys[weight.table], self._rows[weight.table] = key, former["rows"]
            self._stored[weight.table] = stored

    def run(self, weights: Sequence[_Weight], shows_progress: bool) -> None:
        """Create the tables that are missing and load the rows that are."""
        self._save()
        for weight in weights:
            if weight.table not in self._store.tables:
                self._store.create_table(weight.table, *weight.shape, weight.dtype)
        missing = sum(weight.shape[0] - self._rows[weight.table] for weight in weights)
        show = progress.bar if shows_progress else progress.silent
        with show("load tables", missing, "rows") as report:
            for weight in weights:
                self._load(weight, report)

    def _load(self, weight: _Weight, report: progress.Report) -> None:
        table, stored = self._store.table(weight.table), self._stored[weight.table]
        quantises = weight.dtype in QUANTISED
        dtype = torch.float32 if quantises else getattr(torch, weight.dtype)
        step = max(1, _SEGMENT_BYTES // stored.row_bytes)
        for first in range(self._rows[weight.table], weight.shape[0], step):
            last = min(first + step, weight.shape[0])
            chunks = (row_array(rows.to(dtype)) for rows in stored.chunks(first, last))
            table.load(chunks, start=first)  # durable when it returns
            self._rows[weight.table] = last
            self._save()
            report(last - first, weight.table)

    def _save(self) -> None:
        if self._path is None:
            return
        state = {
            "format": _FORMAT,
            "store": self._store.store_id,
            "checkpoint": self.checkpoint.fingerprint,
            "tables": {
                name: {"key": key, "rows": self._rows[name]} for name, key in self._keys.items()
            },
        }
        write_durably(self._path, json.dumps(state).encode())

    def end(self) -> None:
        """Forget the load: the model is converted."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def dense_tensors(
        self, model: nn.Module, embeddings: set[nn.Module]
    ) -> dict[tuple[nn.Module, str], torch.Tensor]:
        """Return the parameters and buffers on the meta device that the checkpoint has.

        Those of `embeddings` are left out. ValueError for one of another shape.
        """
        found: dict[tuple[nn.Module, str], torch.Tensor] = {}
        read: dict[int, torch.Tensor] = {}  # of tensors that several modules have
        for path, module in model.named_modules():
            if module in embeddings:
                continue
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                entry = self.checkpoint.find([f"{path}.{name}" if path else name])
                if tensor is None or not tensor.is_meta or entry is None:
                    continue
                if id(tensor) not in read:
                    read[id(tensor)] = self._read_dense(*entry, tensor)
                found[module, name] = read[id(tensor)]
        return found

    def _read_dense(self, key: str, stored: StoredTensor, meta: torch.Tensor) -> torch.Tensor:
        if stored.shape != tuple(meta.shape):
            raise ValueError(
                f"{self.checkpoint.path}: {key!r}: expected shape {tuple(meta.shape)}, got "
                f"{stored.shape}"
            )
        values = stored.read().to(meta.dtype)
        if isinstance(meta, nn.Parameter):
            return nn.Parameter(values, requires_grad=meta.requires_grad)
        return values


def set_tensors(tensors: Mapping[tuple[nn.Module, str], torch.Tensor]) -> None:
    """Put parameters and buffers in place of those on the meta device."""
    for (module, name), tensor in tensors.items():
        owners: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        next(owner for owner in owners if name in owner)[name] = tensor

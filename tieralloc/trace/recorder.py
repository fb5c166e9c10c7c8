"""The recorder: the accesses of a serving store, for a trace or for training.

Each serving thread writes its accesses to a bounded ring of the core and never waits. A background
thread moves them from the rings to the recorder every 5 ms. If the ring of a thread is full, the
accesses of the call are dropped together and counted.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from tieralloc.errors import RenamedAttribute

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._bindings.store_base import StoreBase
    from tieralloc.trace import Trace

__all__ = ["Recorder"]

_LOG = logging.getLogger("tieralloc")
_PERIOD_SECONDS = 0.005
_WORD_BYTES = 8


class Recorder:
    """The accesses of a store's lookups; `TieredStore.record` returns it.

    Attributes
    ----------
    num_lookups, num_samples : int
        Accesses and samples in the recorder. A sample is one sample of a table-batched call, one
        bag of a call on one table, or one index of a lookup. The calls in a forward pass of a model
        that `tieralloc.nn.convert` converted are one call, however many modules it has.
    dropped_lookups : int
        Accesses lost because a ring was full; earlier and later samples are kept.
    skipped_lookups : int
        Accesses after `max_lookups` was reached, which are not kept.
    """

    if not TYPE_CHECKING:
        trace = RenamedAttribute("Recorder.trace")

    def __init__(self, core: StoreBase, *, max_lookups: int | None, ring_bytes: int) -> None:
        if max_lookups is not None and max_lookups < 1:
            raise ValueError(f"max_lookups: expected at least 1, got {max_lookups}")
        self._core = core
        self._max_lookups = max_lookups
        self._ring_bytes = ring_bytes
        self._lock = threading.Lock()
        self._is_recording = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rows: list[NDArray[np.uint64]] = []
        self._lengths: list[NDArray[np.uint32]] = []
        self._former: list[StoreBase] = []  # of which calls are in progress, oldest first
        self._dropped: dict[StoreBase, int] = {}  # since the start of the recording
        self._dropped_before: dict[StoreBase, int] = {}
        self._dropped_by_former = 0
        self.num_lookups = 0
        self.num_samples = 0
        self.dropped_lookups = 0
        self.skipped_lookups = 0
        self._is_full = False
        self._tables: list[tuple[str, int, int, str, int]] = []

    def _begin(self) -> None:
        self._record(self._core)
        self._is_recording = True
        self._thread = threading.Thread(
            target=self._collect_until_stop, name="tieralloc-record", daemon=True
        )
        self._thread.start()

    def _record(self, core: StoreBase) -> None:
        _, _, dropped = core.record_accesses(max(1, self._ring_bytes // _WORD_BYTES))
        self._dropped_before[core] = dropped

    def join(self, core: StoreBase) -> None:
        """Record the next version of the store too, from its first call on."""
        with self._lock:
            if self._is_recording:
                self._record(core)
                self._former.append(self._core)
                self._core = core

    def leave(self, core: StoreBase) -> None:
        """End the recording of a former version, which has no calls any more."""
        with self._lock:
            if core in self._former and self._is_recording:
                self._keep(core, *core.record_accesses(0))
                self._former.remove(core)
                self._dropped_by_former += self._dropped.pop(core)
                del self._dropped_before[core]

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._is_recording = False
            self._tables = self._core.tables()  # one may be dropped later
            if self._core.belongs_here:
                for core in [*self._former, self._core]:
                    self._keep(core, *core.record_accesses(0))

    def _collect_until_stop(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            if self._core.closed:
                return  # `_end` collects the rest
            try:
                self._collect()
            except ValueError:  # closed since the check
                return

    def _collect(self) -> None:
        with self._lock:
            if not self._is_recording:
                return
            # The newest version first: then no access of a thread is kept before an earlier one.
            cores = [self._core, *reversed(self._former)]
            drained = [(core, core.drain_accesses()) for core in cores]
            for core, accesses in reversed(drained):
                self._keep(core, *accesses)

    def _keep(
        self,
        core: StoreBase,
        rows: NDArray[np.uint64],
        lengths: NDArray[np.uint32],
        dropped: int,
    ) -> None:
        self._dropped[core] = dropped - self._dropped_before[core]
        self.dropped_lookups = self._dropped_by_former + sum(self._dropped.values())
        if len(lengths) == 0:
            return
        total = len(rows)
        if self._is_full:
            rows, lengths = rows[:0], lengths[:0]
        elif self._max_lookups is not None and self.num_lookups + total > self._max_lookups:
            self._is_full = True
            ends = np.cumsum(lengths, dtype=np.int64)
            kept = int(np.searchsorted(ends, self._max_lookups - self.num_lookups, side="right"))
            lengths = lengths[:kept].copy()
            rows = rows[: int(ends[kept - 1]) if kept else 0].copy()
        self._rows.append(rows)
        self._lengths.append(lengths)
        self.num_lookups += len(rows)
        self.num_samples += len(lengths)
        self.skipped_lookups += total - len(rows)

    def _concatenated(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        rows = np.concatenate([np.empty(0, np.uint64), *self._rows])
        return rows, np.concatenate([np.empty(0, np.uint32), *self._lengths])

    def drain(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Return and remove the accesses recorded since the last call.

        For training while the store serves.

        Returns
        -------
        rows : (n,) array of uint64
            Row numbers as in `tieralloc.trace.Trace.accesses`: across the tables, in order of
            creation. The calls of one thread are in order; calls of several threads alternate.
        lengths : (samples,) array of uint32
            Rows of each sample; the sum is n.

        Raises
        ------
        ValueError
            If the store was closed during the recording.
        """
        self._collect()
        with self._lock:
            accesses = self._concatenated()
            self._rows, self._lengths = [], []
            self.num_lookups = self.num_samples = 0
            self._is_full = False
        return accesses

    def to_trace(self, name: str = "recorded", *, require_complete: bool = False) -> Trace:
        """Return the accesses in the recorder as a trace; recording may continue.

        The trace has the served rows: row 0 for an index out of range, and no padding. Several bags
        of a sample on one table are joined. Dropped accesses are logged as a warning.

        Parameters
        ----------
        name : str
            The trace's name.
        require_complete : bool
            Whether to raise RuntimeError if accesses were dropped.

        Raises
        ------
        ValueError
            If the store has no tables.
        RuntimeError
            If accesses were dropped, with `require_complete`.
        """
        from tieralloc.trace import Trace

        if not self._core.closed:
            self._collect()
        with self._lock:
            rows, lengths = self._concatenated()
            dropped = self.dropped_lookups
        if dropped:
            problem = (
                f"trace {name!r}: {dropped} accesses were dropped, because access rings of "
                f"{self._ring_bytes} bytes were full; record with larger ring_bytes"
            )
            if require_complete:
                raise RuntimeError(problem)
            _LOG.warning(problem)
        tables = self._tables or self._core.tables()
        names, sizes = [table[0] for table in tables], [table[1] for table in tables]
        return Trace.from_accesses(rows, lengths, names, sizes, name)

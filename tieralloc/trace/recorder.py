"""The recorder: keeps the accesses of a live store, for a trace or for a learner.

Each serving thread writes its accesses to a bounded ring of the core and never waits. A background
thread moves them from the rings to the recorder every few milliseconds. A call that finds its ring
full is dropped as a whole and counted.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc import _bindings
    from tieralloc.trace import Trace

_LOG = logging.getLogger("tieralloc")
_PERIOD_SECONDS = 0.005
_WORD_BYTES = 8


class Recorder:
    """Records the accesses of a store's lookups; made by `TieredStore.record`.

    Attributes
    ----------
    num_lookups, num_samples : int
        Kept at present. A sample is one line of a table-batched call, one bag of a call on one
        table, or one index of a lookup.
    dropped_lookups : int
        Lost because a thread's ring was full: the samples before and after them are kept.
    skipped_lookups : int
        Not kept because of `max_lookups`: they follow the samples that are kept.
    """

    def __init__(
        self,
        core: _bindings.Store,
        *,
        max_lookups: int | None,
        ring_bytes: int,
    ) -> None:
        if max_lookups is not None and max_lookups < 1:
            raise ValueError(f"max_lookups: expected at least 1, got {max_lookups}")
        self._core = core
        self._max_lookups = max_lookups
        self._ring_bytes = ring_bytes
        self._lock = threading.Lock()
        self._is_recording = False
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._rows: list[NDArray[np.uint64]] = []
        self._lengths: list[NDArray[np.uint32]] = []
        self._dropped_before = 0
        self.num_lookups = 0
        self.num_samples = 0
        self.dropped_lookups = 0
        self.skipped_lookups = 0
        self._is_full = False

    def _begin(self) -> None:
        _, _, self._dropped_before = self._core.record_accesses(
            max(1, self._ring_bytes // _WORD_BYTES)
        )
        self._is_recording = True
        self._thread = threading.Thread(
            target=self._collect_until_end, name="tieralloc-record", daemon=True
        )
        self._thread.start()

    def _end(self) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._is_recording = False
            if self._core.belongs_here:
                self._keep(*self._core.record_accesses(0))

    def _collect_until_end(self) -> None:
        while not self._ends.wait(_PERIOD_SECONDS):
            if self._core.closed:
                return  # nothing follows; `_end` takes the rest
            try:
                self._collect()
            except ValueError:  # closed meanwhile
                return

    def _collect(self) -> None:
        with self._lock:
            if self._is_recording:
                self._keep(*self._core.drain_accesses())

    def _keep(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32], dropped: int) -> None:
        self.dropped_lookups = dropped - self._dropped_before
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

    def _kept(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        rows = np.concatenate([np.empty(0, np.uint64), *self._rows])
        return rows, np.concatenate([np.empty(0, np.uint32), *self._lengths])

    def drain(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Take the accesses recorded since the last call; the recorder keeps them no longer.

        For learners that follow a store while it serves.

        Returns
        -------
        rows : (n,) array of uint64
            Rows, numbered as `tieralloc.trace.Trace.accesses` numbers them: across the tables, in
            order of creation. The calls of one thread are in order; those of several threads
            alternate.
        lengths : (samples,) array of uint32
            Rows of each sample, which add up to n.

        Raises
        ------
        ValueError
            While recording a store that is closed.
        """
        self._collect()
        with self._lock:
            taken = self._kept()
            self._rows, self._lengths = [], []
            self.num_lookups = self.num_samples = 0
            self._is_full = False
        return taken

    def to_trace(self, name: str = "recorded", *, require_complete: bool = False) -> Trace:
        """Return the accesses kept as a trace; recording may go on.

        Rows are those that were served: row 0 for an index out of range, and no padding. The bags
        that a sample has of one table are joined. Logs a warning if accesses were dropped.

        Parameters
        ----------
        name : str
            The trace's name.
        require_complete : bool
            Raise RuntimeError if accesses were dropped.

        Raises
        ------
        ValueError
            For a store without tables.
        RuntimeError
            With `require_complete`, for dropped accesses.
        """
        from tieralloc.trace import Trace

        if not self._core.closed:
            self._collect()
        with self._lock:
            rows, lengths = self._kept()
            dropped = self.dropped_lookups
        if dropped:
            problem = (
                f"trace {name!r}: {dropped} accesses are missing, because rings of "
                f"{self._ring_bytes} bytes were full; record with larger ring_bytes"
            )
            if require_complete:
                raise RuntimeError(problem)
            _LOG.warning(problem)
        tables = self._core.tables()
        names, sizes = [table[0] for table in tables], [table[1] for table in tables]
        return Trace.from_accesses(rows, lengths, names, sizes, name)

    if not TYPE_CHECKING:  # an unknown attribute stays an error for type checkers

        def __getattr__(self, name: str) -> object:
            if name == "trace":
                raise AttributeError("Recorder.trace: use Recorder.to_trace")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

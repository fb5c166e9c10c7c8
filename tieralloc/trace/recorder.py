"""The recorder: gathers the table-batched calls of a live store into a trace."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tieralloc.trace.trace import Trace, starts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


class _Call(NamedTuple):
    tables: NDArray[np.int64]
    indices: NDArray[Any]
    offsets: NDArray[np.int64]  # one a bag, and the end

    @property
    def samples(self) -> int:
        return (len(self.offsets) - 1) // len(self.tables)


class Recorder:
    """Records calls from any number of threads; each call's bags become consecutive samples.

    Parameters
    ----------
    table_names : sequence of str
        The tables, numbered from 0 in this order.
    num_embeddings : (T,) array of integers
        Rows of each table.
    max_lookups : int, optional
        Stop recording at the first call that would take the trace beyond this many lookups, so
        that what is recorded has no holes. Without it memory grows with the calls: as many
        bytes as their indices and offsets have.

    Attributes
    ----------
    num_lookups, num_samples : int
        Recorded so far.
    dropped_calls, dropped_lookups : int
        Not recorded, for want of room.
    """

    def __init__(
        self,
        table_names: Sequence[str] = (),
        num_embeddings: ArrayLike = (),
        *,
        max_lookups: int | None = None,
    ) -> None:
        if max_lookups is not None and max_lookups < 1:
            raise ValueError(f"max_lookups is {max_lookups}, expected at least 1")
        rows = np.asarray(num_embeddings).tolist()
        if len(rows) != len(table_names):
            raise ValueError(
                f"num_embeddings are of {len(rows)} tables, expected {len(table_names)} as"
                " table_names"
            )
        self.num_lookups = 0
        self.num_samples = 0
        self.dropped_calls = 0
        self.dropped_lookups = 0
        self._max_lookups = max_lookups
        self._names: list[str] = list(table_names)
        self._num_embeddings: list[int] = rows
        self._calls: list[_Call] = []
        self._lock = threading.Lock()

    def add_table(self, name: str, num_embeddings: int) -> int:
        """Add a table that was made while recording, and return its number."""
        with self._lock:
            self._names.append(name)
            self._num_embeddings.append(num_embeddings)
            return len(self._names) - 1

    def add(
        self,
        tables: Sequence[int],
        indices: ArrayLike,
        offsets: ArrayLike,
        *,
        include_last_offset: bool = True,
    ) -> None:
        """Record one call of B bags of each of some tables; of the others it has empty bags.

        Parameters
        ----------
        tables : (k,) sequence of int
            Numbers of the tables in the order of the bags. Of a table that features share, and
            that is there several times, a sample's bags are joined.
        indices : (n,) integers
            Table-major; copied. Whether a table has such rows is checked by `trace`.
        offsets : (k * B + 1,) integers
            Where each bag begins, and ``n``; copied. Without `include_last_offset` (k * B,), as
            torch has them by default.

        Raises
        ------
        ValueError
            Where the offsets or the tables cannot be those of such a call; nothing is recorded.
        """
        call = _copied(tables, indices, offsets, include_last_offset)
        if call is None:
            return
        lookups = len(call.indices)
        with self._lock:
            if int(call.tables.max()) >= len(self._names):
                raise ValueError(
                    f"tables hold {call.tables.max()}, expected below {len(self._names)}"
                )
            room = self._max_lookups is None or self.num_lookups + lookups <= self._max_lookups
            if self.dropped_calls or not room:
                self.dropped_calls += 1
                self.dropped_lookups += lookups
                return
            self._calls.append(call)
            self.num_lookups += lookups
            self.num_samples += call.samples

    def trace(self, name: str = "recorded") -> Trace:
        """Return what was recorded so far as a trace; recording may go on.

        Raises
        ------
        ValueError
            Where there is no table, or a call held a row that its table does not have.
        """
        with self._lock:
            names, rows, calls = self._names.copy(), self._num_embeddings.copy(), self._calls.copy()
        lengths = np.zeros((len(names), sum(call.samples for call in calls)), dtype=np.int32)
        table_of_lookup = []
        sample_of_lookup = []
        begin = 0
        for call in calls:
            end = begin + call.samples
            bags = np.diff(call.offsets)
            tables = np.repeat(call.tables, call.samples)
            samples = np.tile(np.arange(begin, end), len(call.tables))
            np.add.at(lengths, (tables, samples), bags)
            table_of_lookup.append(np.repeat(tables, bags))
            sample_of_lookup.append(np.repeat(samples, bags))
            begin = end
        # Stable: of a table that a call has several bags a sample of, they stay in order.
        order = np.lexsort((_joined(sample_of_lookup), _joined(table_of_lookup)))
        indices = _joined([call.indices for call in calls])[order]
        return Trace(indices, starts_of(lengths.ravel()), lengths, names, np.array(rows), name)


def _joined(pieces: list[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *pieces], dtype=np.int64)


def _copied(
    tables: Sequence[int], indices: ArrayLike, offsets: ArrayLike, include_last_offset: bool
) -> _Call | None:
    """Copy a call, once checked for what would spoil the others; None where it has no bags."""
    positions = np.array(tables, dtype=np.int64)
    if len(positions) == 0:
        return None
    if positions.min() < 0:
        raise ValueError(f"tables are {list(tables)}, expected numbers from 0")
    rows = np.array(indices)
    begins = np.array(offsets, dtype=np.int64)
    if not include_last_offset:
        begins = np.append(begins, len(rows))
    if len(begins) == 0 or (len(begins) - 1) % len(positions):
        raise ValueError(
            f"offsets are of {len(begins) - 1} bags, expected a multiple of the"
            f" {len(positions)} tables"
        )
    if begins[0] != 0 or begins[-1] != len(rows) or (begins[1:] < begins[:-1]).any():
        raise ValueError(f"offsets are not ascending from 0 to {len(rows)}, the number of indices")
    return _Call(positions, rows, begins) if len(begins) > 1 else None

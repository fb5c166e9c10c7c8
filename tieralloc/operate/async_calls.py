"""Lookups that background threads serve while their caller goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tieralloc.operate.positions import paddings_of, positions_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tieralloc._bindings.pending_call import PendingCall
    from tieralloc.store import TieredStore
    from tieralloc.table import Table

#: A wait returns to Python this often: for signals.
_POLL_MS = 100


class PendingLookup:
    """A lookup that goes on in the background; `TieredStore.lookup_async` returns it.

    It has a buffer of its own or the caller's `out`, which must stay as it is until the lookup is
    done. ``await`` is `wait` for a coroutine. A pending lookup without a reference is cancelled: if
    its reads have begun, the thread that drops it waits for them.

    Examples
    --------
    >>> pending = store.lookup_async("item", [3, 14])
    >>> other_work()
    >>> pending.wait().shape
    (2, 64)
    """

    def __init__(self, call: PendingCall, warn: Callable[[int], None]) -> None:
        self._call = call
        self._warn: Callable[[int], None] | None = warn

    @property
    def done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._call.is_done()

    def wait(self, timeout: float | None = None) -> Any:
        """Return the rows, or `out`, once they are there; any number of times.

        Parameters
        ----------
        timeout : float, optional
            Max seconds.

        Raises
        ------
        TimeoutError
            If the lookup is not done in time. It goes on.
        OSError
            If a row cannot be read.
        ValueError
            If the lookup was cancelled, or belongs to the parent of a forked process.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._call.wait_for(_next_poll_ms(end)):
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"wait: expected the rows within {timeout:g} s, got none")
        array, outside = self._call.result()
        warn, self._warn = self._warn, None
        if outside and warn is not None:
            warn(outside)
        return array

    def cancel(self) -> None:
        """Give the lookup up, unless it is done; return once `out` is not written any more."""
        self._call.cancel()

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, self.wait).__await__()


def _next_poll_ms(end: float | None) -> int:
    if end is None:
        return _POLL_MS
    return max(0, min(_POLL_MS, int(1e3 * (end - time.monotonic())) + 1))


class AsyncCalls:
    """Base class of `TieredStore`: its calls that go on in the background."""

    def lookup_async(
        self, table: str | Table, indices: ArrayLike, out: object = None, *, raw: bool = False
    ) -> PendingLookup:
        """Begin a lookup of rows; return at once. The arguments are those of `Table.lookup`.

        The reads begin at once, beside those of other lookups; up to four lookups are served at a
        time, later ones in turn. The call waits only while a thousand are pending. `indices` are
        copied; `out`, which may be a tensor of torch, pinned or not, must not be used until the
        lookup is done.

        Returns
        -------
        PendingLookup

        Raises
        ------
        IndexError, ValueError, TypeError
            As for `Table.lookup`. An error of a read is raised by `PendingLookup.wait`.
        """
        store = self._self()
        (position,) = positions_of(store, [table])
        call = store._core.lookup_async(position, _copy(indices), out, raw, store._bounds)
        return PendingLookup(call, store._warn_out_of_range)

    def embedding_bag_async(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = True,
        padding_idx: Sequence[int | None] | None = None,
        out: object = None,
    ) -> PendingLookup:
        """Begin an `embedding_bag` of many tables; return at once, as `lookup_async` does."""
        store = self._self()
        positions = positions_of(store, tables)
        call = store._core.embedding_bag_async(
            positions,
            paddings_of(store, positions, padding_idx),
            _copy(indices),
            _copy(offsets),
            include_last_offset,
            mode,
            None if per_sample_weights is None else _copy(per_sample_weights),
            out,
            store._bounds,
        )
        return PendingLookup(call, store._warn_out_of_range)

    def _self(self) -> TieredStore:
        return cast("TieredStore", self)


def _copy(values: ArrayLike) -> ArrayLike:
    """Return a copy of an array, whose owner may change it; a list is converted anyway."""
    return values if isinstance(values, (list, tuple)) else np.array(values)

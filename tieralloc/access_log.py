"""The accesses of a live store, for whoever learns from them while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tieralloc import _bindings


class AccessLog:
    """What lookups of a store access; made by `TieredStore.access_log`.

    Each serving thread writes into a bounded ring of its own. A call that does not fit is dropped
    and counted as a whole: serving never waits. Unlike `TieredStore.record` it costs about a
    nanosecond an access and no memory that grows.
    """

    def __init__(self, core: _bindings.Store) -> None:
        self._core = core

    def drain(self) -> NDArray[np.uint64]:
        """Take what was accessed since the last time.

        Returns
        -------
        (n,) array of uint64
            Rows, numbered as `tieralloc.trace.Trace.accesses` numbers them: those of the first
            table from 0, of the second from where the first ends. Sample by sample, as there, in
            the order of the calls of each thread, one thread after another.

        Raises
        ------
        ValueError
            For a closed store.
        """
        return self._core.drain_accesses()[0]

    def drain_samples(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Take what was accessed since the last time, and where its samples begin and end.

        Returns
        -------
        rows : (n,) array of uint64
            As of `drain`.
        lengths : (samples,) array of uint32
            Rows of each sample, which add up to n: a sample is a line of a table-batched call, a
            bag of a call on one table, an index of a lookup.

        Raises
        ------
        ValueError
            For a closed store.
        """
        return self._core.drain_accesses()

    @property
    def dropped(self) -> int:
        """Accesses that found their ring full."""
        return int(self._core.stats()["accesses_dropped"])

"""The store: tables of embedding vectors in a slow tier and a pool of DRAM."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, overload

from tieralloc._bindings import limits
from tieralloc._common.exit_status import close_at_exit
from tieralloc._common.numbers import check_range, parse_size
from tieralloc._common.values import check_choice, row_format
from tieralloc.errors import RenamedAttribute, refuse_renamed
from tieralloc.operate.async_calls import AsyncCalls
from tieralloc.operate.operations import Operations
from tieralloc.operate.positions import paddings_of, positions_of
from tieralloc.operate.reopen import Reopenable
from tieralloc.operate.versions import Versions
from tieralloc.operate.watch import StateWatch
from tieralloc.order.order import order_of
from tieralloc.policy.planned import ActivePolicy
from tieralloc.restart.warm_restart import WarmRestart
from tieralloc.table import Table, check_writable
from tieralloc.tiers import Mode, NumaMemory, SlowTier, fast_tier, parse_cpus, slow_tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike

    from tieralloc.order import Order
    from tieralloc.policy.learned import LearnedPolicy
    from tieralloc.stats import StoreStats
    from tieralloc.table import Out
    from tieralloc.trace.recorder import Recorder

__all__ = ["TieredStore"]

_LOG = logging.getLogger("tieralloc")


class TieredStore(Operations, AsyncCalls, Reopenable):
    """Tables of embedding vectors in a slow tier, served from a fast tier.

    The slow tier holds every row. The fast tier, a pool of DRAM, holds copies of the rows that the
    policy keeps. All methods are thread-safe and release the GIL. A forked child cannot use the
    store (ValueError); it must open a store of its own. A copy is the store itself; unpickling a
    store opens its file to read.

    Garbage collection or the end of the interpreter closes an open store. If that fails, an error
    is logged, and the program exits with status 120.

    Parameters
    ----------
    path : path, optional
        The slow tier's file: ``TieredStore(path, mode=mode)`` is short for
        ``TieredStore(slow=File(path, mode=mode))``.
    slow : File, NumaMemory or Checkpoint, optional
        The slow tier, instead of `path`.
    mode : {"a", "r+", "w", "r"}, optional
        With `path`: the mode of `File`. "a", the default, opens or creates the file.
    fast_bytes : int or str
        Max DRAM of the tables, such as ``"64MiB"``: vectors, index and metadata. Small tables lie
        in it as a whole (`create_table`). The memory of a `LearnedPolicy` is additional.
    fast_rows : int
        Rows of the fast tier instead of `fast_bytes`, for experiments. 0 is valid for a slow tier
        in memory: no fast tier, every row is read in place.
    fast_node : int or NumaMemory, optional
        NUMA node of the fast tier; by default the kernel places its memory.
    policy : str or LearnedPolicy
        Eviction policy: "lru", "lfu", "clock", "sieve", "s3fifo", "random", or a learned one:
        ``"recmg:DIR"`` is short for ``LearnedPolicy(DIR, name="recmg")``. A learned policy starts
        once the store has the tables of its training trace, and stops when it gets more.
    bounds_check_mode : {"fatal", "warning", "default"}
        Effect of an index out of range in a lookup. "fatal" raises IndexError. "warning" serves row
        0, counts the index in `stats` and logs the first call; a prefetch skips the index.
        "default" serves zeros and counts: for ids that a table does not have yet.
        `Table.update` and `Table.pin` always raise IndexError.
    cpus : sequence of int or str, optional
        Processors of the background threads, such as ``"0-3,8"``; by default any. With a node's
        memory: those of the node, or, if it has none, those outside the caller's affinity mask.

    Raises
    ------
    OSError
        If the file cannot be opened or created, or another store locks it. The file is unchanged.
    ValueError
        If options contradict each other or have no effect. If the file is not a tieralloc file,
        damaged, truncated, of a newer version, or has other tables than a learned policy was
        trained for; it is unchanged. If a node does not exist, is offline, has no memory, or is
        outside the cpuset.
    MemoryError
        If the machine, or `fast_node`, has too little DRAM available.

    Examples
    --------
    >>> store = TieredStore("emb.tier", mode="w", fast_bytes="64MiB")
    >>> table = store.create_table("item", num_embeddings=1000, embedding_dim=16)
    >>> table.lookup([3, 14]).shape
    (2, 16)
    >>> store.close()
    """

    if not TYPE_CHECKING:
        open = RenamedAttribute("TieredStore.open")
    access_log = RenamedAttribute("TieredStore.access_log")

    @refuse_renamed
    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        slow: SlowTier | None = None,
        mode: Mode | None = None,
        fast_bytes: int | str | None = None,
        fast_rows: int | None = None,
        fast_node: int | NumaMemory | None = None,
        policy: str | LearnedPolicy = "s3fifo",
        bounds_check_mode: Literal["fatal", "warning", "default"] = "fatal",
        cpus: Sequence[int] | str | None = None,
    ) -> None:
        # Takes 15 ms. Not in `stats`: a child forked during an import in a thread waits for ever.
        from tieralloc.stats import StoreStats

        self._stats_type = StoreStats
        slow = slow_tier(path, slow, mode)
        check_choice("bounds_check_mode", bounds_check_mode, ("fatal", "warning", "default"))
        self._fast = fast_tier(fast_bytes, fast_rows, fast_node, in_memory=slow._in_memory)
        self._options: dict[str, object] = {
            "fast_bytes": fast_bytes,
            "fast_rows": fast_rows,
            "fast_node": fast_node,
            "policy": policy,
            "bounds_check_mode": bounds_check_mode,
            "cpus": cpus,
        }
        self._policy = ActivePolicy(policy)
        self._cpus = parse_cpus(cpus)
        self._core = self._open_core(slow)
        self._read_only = slow._read_only
        self._bounds = bounds_check_mode
        self._first_out_of_range = threading.Lock()  # held since the first warning
        self._recorder: Recorder | None = None
        self._tables: dict[str, Table] = {}
        self._reserved: dict[str, int] = {}
        self._add_tables()
        self._versions = Versions(WarmRestart.of(self._core, slow), slow)
        self._watch = StateWatch(self._versions, self._policy)
        # Writes updates back when the store is garbage-collected or the interpreter exits.
        self._finalizer = weakref.finalize(self, close_at_exit, self._versions)
        try:
            self._policy.check(self._table_sizes())
            self._policy.fit(self._core, self._table_sizes())
            self._versions.current.start()
            self._watch.poll()
            self._watch.start()
        except BaseException:
            self.close()  # the traceback references the store, which would keep its file locked
            raise

    def _add_tables(self) -> None:
        for position, layout in zip(self._core.positions(), self._core.tables(), strict=True):
            if layout[0] not in self._tables:
                self._tables[layout[0]] = Table(self, position, *layout)

    @property
    def tables(self) -> Mapping[str, Table]:
        """The store's tables by name, in order of creation."""
        return dict(self._tables)

    @property
    def closed(self) -> bool:
        """Whether the store is closed."""
        return self._core.closed

    def create_table(
        self,
        name: str,
        num_embeddings: int,
        embedding_dim: int | None = None,
        dtype: DTypeLike | str = "float32",
        *,
        row_bytes: int | None = None,
        resident: bool | Literal["auto"] = "auto",
        order: str | os.PathLike[str] | Order | None = None,
    ) -> Table:
        """Create a table whose rows are all zero.

        Tables share the DRAM budget in proportion to their bytes. Pins and resident rows of others
        stay, but the next victims of more than fit now. A learned policy begins again.

        Parameters
        ----------
        name : str
            Unique in the store, 1 to 191 bytes of UTF-8.
        num_embeddings, embedding_dim, row_bytes : int
            Rows; elements per row, or, for dtype "bytes", bytes per row.
        dtype : str or dtype
            "float32", "float16", "bfloat16", "float64", or that type of NumPy or torch. "int8" and
            "int4" quantise; the caller decodes "bytes". `Table` describes them, and float8.
        resident : {"auto", True, False}
            Whether the table lies in DRAM as a whole, as part of `fast_bytes`: then every lookup is
            a hit, without index or policy. "auto": if it takes at most 1/64 of `fast_bytes`, and
            the resident tables so far at most 1/4. The file keeps the choice. With `fast_rows` no
            table is resident. `Table.resident` has the outcome.
        order : path or Order, optional
            Which rows share pages of the file, from ``tieralloc arrange``: rows that are looked up
            together take fewer device reads. Indices stay the same. The map from rows to places is
            part of `fast_bytes`: `DramStats.order_bytes`.

        Raises
        ------
        ValueError
            If a table has this name already (`table` returns it), a size or dtype is invalid, the
            budget has too few rows for each table and for pinned rows, a resident table does not
            fit, the order is of other rows, has a row twice, or is for a slow tier in memory, or
            the store's learned policy was trained for another table in this place. Also if a
            learned policy has too little memory now: the table exists then, with its fallback.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        MemoryError
            If the fast tier would take more DRAM than is available.
        OSError
            If the file cannot grow (ENOSPC). The file is unchanged.
        """
        check_writable(self, "create_table")
        if name in self._tables and not self.closed:
            raise ValueError(
                f"name: table {name!r} exists already; expected a new name (`table` returns it)"
            )
        check_range("num_embeddings", num_embeddings, 1, limits.MAX_TABLE_ROWS)
        kind, size = row_format(dtype, embedding_dim, row_bytes, limits.MAX_DIM)
        self._policy.check_next(self._table_sizes(), (name, num_embeddings))
        row_order = order_of(order, name, num_embeddings, size, kind)
        with self._versions.changing:
            sizes = self._table_sizes()
            with self._policy.fitting(self._core, sizes, [*sizes, (name, num_embeddings)]):
                self._core.create_table(name, num_embeddings, size, kind, resident, row_order)
                self._add_tables()
        self._watch.poll()
        return self._tables[name]

    def table(self, name: str) -> Table:
        """Return the table of this name; KeyError lists the names if it is unknown."""
        try:
            return self._tables[name]
        except KeyError:
            known = ", ".join(self._tables) or "the tables made by create_table, none yet"
            raise KeyError(f"table {name!r}: unknown; expected one of {known}") from None

    @overload
    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = True,
        padding_idx: Sequence[int | None] | None = None,
        out: None = None,
    ) -> np.ndarray: ...

    @overload
    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = True,
        padding_idx: Sequence[int | None] | None = None,
        *,
        out: Out,
    ) -> Out: ...

    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = True,
        padding_idx: Sequence[int | None] | None = None,
        out: object = None,
    ) -> object:
        """Pool bags of rows of many tables in one call; all misses are fetched as one batch.

        Parameters
        ----------
        indices : (nnz,) int32 or int64
            Rows, table-major: all bags of the first table, then all bags of the second, …
        offsets : (T * B + 1,) int32 or int64
            Bag ``b`` of table ``t`` is ``indices[offsets[t*B+b]:offsets[t*B+b+1]]``. Without
            `include_last_offset` the end of the last bag is omitted.
        tables : sequence of str or Table, optional
            The T tables; by default all tables of the store, in order of creation.
        mode : {"sum", "mean", "max"}
            Pooling mode; an empty bag gives zeros.
        per_sample_weights : (nnz,) float32, optional
            Factor of each row (float64 for tables of float64); mode "sum" only.
        include_last_offset : bool
            Whether `offsets` holds the end of the last bag, as a trace's do (torch: False).
        padding_idx : (T,) sequence of int or None, optional
            Padding row of each table, which bags skip.
        out : writable buffer or tensor in DRAM, optional
            Buffer of the result.

        Returns
        -------
        (B, D) array
            D is the sum of the tables' dims, in order. The dtype is that of the tables if they
            share one, otherwise float32. If `out` is given, it is returned.

        Raises
        ------
        IndexError
            If an index is out of range; the message names it and its table. Nothing is done.
        ValueError, TypeError
            If offsets do not ascend from 0 to at most the number of indices, a shape or type is
            wrong, or the store is closed.
        OSError
            If a row cannot be read. Other rows are still served.
        """
        positions = positions_of(self, tables)
        paddings = paddings_of(self, positions, padding_idx)
        result, outside = self._core.embedding_bag(
            positions,
            paddings,
            indices,
            offsets,
            include_last_offset,
            mode,
            per_sample_weights,
            out,
            self._bounds,
        )
        if outside:
            self._warn_out_of_range(outside)
        return result

    def prefetch(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        include_last_offset: bool = True,
    ) -> int:
        """Prefetch the rows of a later `embedding_bag` call in the background.

        The arguments are those of `embedding_bag`. A hint that returns at once, with the number of
        rows queued: not those that are resident, nor those that do not fit: they are counted.
        """
        positions = positions_of(self, tables)
        return self._core.prefetch(positions, indices, offsets, include_last_offset, self._bounds)

    def _warn_out_of_range(self, outside: int) -> None:
        """Log the first call that has indices out of range; `stats` counts all of them."""
        if self._bounds == "warning" and self._first_out_of_range.acquire(blocking=False):
            _LOG.warning(
                "%d indices of a call are out of range and were served as row 0; further ones are "
                "only counted, in stats().lookup.out_of_range",
                outside,
            )

    @contextmanager
    def record(
        self, max_lookups: int | None = None, *, ring_bytes: int | str = "8MiB"
    ) -> Iterator[Recorder]:
        """Record the accesses of lookups in the context, with any policy.

        Parameters
        ----------
        max_lookups : int, optional
            Max accesses kept; later accesses are only counted. By default all are kept, 8 bytes
            each and 4 bytes per sample.
        ring_bytes : int or str
            Access ring of each serving thread, rounded up to a power of two. It must hold the
            accesses of a few milliseconds: 8 bytes per access, 4 per bag and 8 per table of a call.

        Yields
        ------
        Recorder
            `to_trace` returns a trace; `drain` is for training on a serving store.

        Raises
        ------
        RuntimeError
            If the store is being recorded already.
        ValueError
            If a size is out of range, or the store is closed.

        Examples
        --------
        >>> with store.record(max_lookups=10_000_000) as recorder:
        ...     serve(store)
        >>> tieralloc.trace.write(recorder.to_trace("monday"), "monday.npz")
        """
        size = parse_size(ring_bytes, "ring_bytes")
        check_range("ring_bytes", size, 16, limits.MAX_RING_BYTES)
        if self._recorder is not None:
            raise RuntimeError("record: the store is being recorded already; end that first")
        from tieralloc.trace.recorder import Recorder

        with self._versions.changing:
            core = self._versions.current.core
            recorder = Recorder(core, max_lookups=max_lookups, ring_bytes=size)
            recorder._begin()
            self._recorder = recorder
        try:
            yield recorder
        finally:
            with self._versions.changing:
                self._recorder = None
                recorder._end()

    @refuse_renamed
    def use_policy(self, policy: str | LearnedPolicy) -> None:
        """Replace the policy that decides which rows are evicted from the fast tier.

        A learned policy runs in a background thread of the core. While a simple policy misses less
        in miniature simulations, that one is active. While the learned policy is paused or failed,
        its fallback is active: s3fifo, unless the policy directory names another; see `stats`.

        Parameters
        ----------
        policy : str or LearnedPolicy
            As for `TieredStore`.

        Raises
        ------
        ValueError
            If the policy is unknown, is not in its directory, was trained for other tables or has
            too little memory, or if the store is closed. The former policy stays active.
        OSError, ImportError
            If a directory cannot be read, or torch is missing.
        """
        with self._versions.changing:
            self._policy.use(self._core, policy, self._table_sizes())
            self._options["policy"] = policy
        self._watch.poll()

    def stats(self) -> StoreStats:
        """Return statistics since the file was opened or `reset_stats` was called.

        `StoreStats.policy_stats` covers the time since the policy started.
        """
        self._watch.poll()
        of_python = {"policy": self._policy.name, "switches": self._versions.switches}
        of_python["policy_stats"] = self._policy.stats(self._core)
        return self._stats_type.of({**self._core.stats(), **of_python})

    def reset_stats(self) -> None:
        """Set all counters and histograms to 0; resident rows stay."""
        self._core.reset_stats()

    def flush(self) -> None:
        """Return when all earlier updates survive a power cut; lookups go on meanwhile.

        Raises
        ------
        OSError
            If an update is not durable; the next call tries again. Also if the file was deleted or
            moved (ENOENT) or replaced (ESTALE) while it was open: updates are in the former file.
        """
        self._core.flush()
        self._versions.flush()

    def close(self) -> None:
        """Write all updates to their pages and close the store; a second call does nothing.

        Raises
        ------
        OSError
            If a page cannot be written. The store stays open. Also if the file was deleted, moved
            or replaced as of `flush`; the store is closed then.
        """
        try:
            with self._watch.closing():
                self._versions.close()
        finally:
            if self.closed:
                self._finalizer.detach()

    def __enter__(self) -> TieredStore:
        if self.closed:
            raise ValueError("the store is closed; open it again with TieredStore(path)")
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<TieredStore{state} tables={list(self._tables)} policy={self._policy.name!r}>"

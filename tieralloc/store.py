"""The store: tables of embedding vectors in a slow tier and a pool of DRAM."""

from __future__ import annotations

import io
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

from tieralloc import _bindings
from tieralloc._common.numbers import check_range, parse_size
from tieralloc.errors import RenamedAttribute, refuse_renamed
from tieralloc.policy.planned import ActivePolicy
from tieralloc.stats import StoreStats
from tieralloc.table import Table, dtype_name, paddings_of, positions_of
from tieralloc.tiers import Mode, NumaMemory, SlowTier, node_of, parse_cpus, slow_tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike

    from tieralloc.policy.learned import LearnedPolicy
    from tieralloc.table import Out
    from tieralloc.trace.recorder import Recorder

__all__ = ["TieredStore"]

_LOG = logging.getLogger("tieralloc")


class TieredStore:
    """Tables of embedding vectors whose rows lie in a slow tier and are served from a fast one.

    The slow tier holds every row; the fast tier, a pool of DRAM, holds copies of the rows that the
    policy keeps. All methods may be called from any number of threads; the GIL is released while
    they work. A forked child cannot use the store (ValueError); it must open one of its own.

    Parameters
    ----------
    path : path, optional
        The slow tier's file: ``TieredStore(path, mode=mode)`` is short for
        ``TieredStore(slow=File(path, mode=mode))``.
    slow : File or NumaMemory, optional
        The slow tier, instead of `path`.
    mode : {"a", "r+", "w", "r"}, optional
        With `path`: as of `File`. "a", the default, opens the file or makes a missing one.
    fast_bytes : int or str
        All the DRAM that the tables may take: vectors, index and metadata, such as ``"64MiB"``. The
        memory of a learned policy comes on top (`LearnedPolicy`).
    fast_rows : int
        Number of rows of the fast tier instead, for experiments. With a slow tier in memory it may
        be 0: no fast tier, every row is read in place.
    fast_node : int or NumaMemory, optional
        The NUMA node that the fast tier is bound to; by default the kernel places its memory.
    policy : str or LearnedPolicy
        Decides which rows are evicted: "lru", "lfu", "clock", "sieve", "s3fifo", "random", or a
        learned policy. ``"recmg:DIR"`` is short for ``LearnedPolicy(DIR, name="recmg")``. A learned
        policy starts once the store has the tables that it was trained for.
    bounds_check_mode : {"fatal", "warning"}
        Effect of an index out of range in a lookup: IndexError, or row 0 is served, and the index
        counted in `stats` and logged once. "warning" makes a prefetch skip it; in `Table.update`
        and `Table.pin` it is always an error.
    cpus : sequence of int or str, optional
        Processors of the background threads, such as ``"0-3,8"``. By default, with memory of a
        node, the processors of the node, or, if it has none, those that the calling thread may not
        run on; any otherwise.

    Raises
    ------
    OSError
        If the file cannot be opened or made, or is locked by another store; it is unchanged then.
    ValueError
        If options contradict each other or have no effect; if the file is not a store's, damaged,
        truncated or of a newer version (it is unchanged then); if a node does not exist, is
        offline, has no memory, or lies outside the cpuset.
    MemoryError
        For more DRAM than the machine, or `fast_node`, has available.

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
        bounds_check_mode: Literal["fatal", "warning"] = "fatal",
        cpus: Sequence[int] | str | None = None,
    ) -> None:
        options = slow_tier(path, slow, mode).core_options()
        if (fast_bytes is None) == (fast_rows is None):
            raise ValueError(
                f"fast_bytes, fast_rows: expected one of them, got fast_bytes={fast_bytes!r} and "
                f"fast_rows={fast_rows!r}"
            )
        if bounds_check_mode not in ("fatal", "warning"):
            raise ValueError(
                f"bounds_check_mode: expected 'fatal' or 'warning', got {bounds_check_mode!r}"
            )
        if fast_rows is not None:
            check_range("fast_rows", fast_rows, int(options["memory"] is None), (1 << 63) - 1)
        self._policy = ActivePolicy(policy)
        self._core = _bindings.Store(
            **options,
            fast_bytes=0 if fast_bytes is None else _checked_bytes(fast_bytes),
            fast_rows=0 if fast_rows is None else fast_rows,
            fast_node=node_of(fast_node),
            cpus=parse_cpus(cpus),
            policy=self._policy.simple,
        )
        self._path = None if options["path"] is None else os.fsdecode(options["path"])
        self._read_only = options["mode"] == "r"
        self._bounds = bounds_check_mode
        self._first_out_of_range = threading.Lock()  # taken by the first one, for good
        self._recorder: Recorder | None = None
        self._tables: dict[str, Table] = {}
        self._learn_tables()
        # Runs when the store is collected or the interpreter ends: updates are still written back.
        self._finalizer = weakref.finalize(self, _end_core, self._core)
        try:
            self._policy.fit(self._core, self._rows_of_tables())
        except BaseException:
            self.close()  # the exception's traceback would keep the store, and lock its file
            raise

    def _learn_tables(self) -> None:
        for position, layout in enumerate(self._core.tables()):
            if layout[0] not in self._tables:
                self._tables[layout[0]] = Table(self, position, *layout)

    @property
    def tables(self) -> Mapping[str, Table]:
        """The store's tables by name, in order of creation."""
        return dict(self._tables)

    @property
    def closed(self) -> bool:
        """Whether `close` has ended the store."""
        return self._core.closed

    def create_table(
        self,
        name: str,
        num_embeddings: int,
        embedding_dim: int,
        dtype: DTypeLike | str = "float32",
    ) -> Table:
        """Make a table whose rows are all zero.

        The file grows. The table takes its share of the DRAM budget, in proportion to the tables'
        bytes. The fast tier is laid out again and loses its copies and pins, so make all tables
        before serving.

        Parameters
        ----------
        name : str
            1 to 191 bytes of UTF-8, not that of another table.
        num_embeddings : int
            Rows.
        embedding_dim : int
            Elements a row.
        dtype : str or dtype
            "float32", "float16", "bfloat16" or "float64", or NumPy's or torch's type of that name.

        Returns
        -------
        Table

        Raises
        ------
        ValueError
            For a name that is taken (`table` returns the table), no rows or no elements, an unknown
            dtype, or if the budget would leave a table less than one row. Also for too little
            memory of a learned policy that would start now: the table is made then, and the
            policy's fallback decides.
        io.UnsupportedOperation
            If the file was opened with mode "r".
        MemoryError
            If the fast tier would take more DRAM than there is.
        OSError
            If the file cannot grow (ENOSPC); it is unchanged then.
        """
        self._check_writable("create_table")
        if name in self._tables and not self.closed:
            raise ValueError(
                f"name: table {name!r} exists already; expected a new name, or "
                f"store.table({name!r}), which returns the table"
            )
        check_range("num_embeddings", num_embeddings, 1, 1 << 48)
        check_range("embedding_dim", embedding_dim, 1, 1 << 20)
        self._core.create_table(name, num_embeddings, embedding_dim, dtype_name(dtype))
        self._learn_tables()
        self._policy.fit(self._core, self._rows_of_tables())
        return self._tables[name]

    def _check_writable(self, call: str) -> None:
        if self._read_only and not self.closed:
            raise io.UnsupportedOperation(
                f"{self._path}: {call} writes; expected a store of mode 'r+' or 'a', got mode 'r'"
            )

    def table(self, name: str) -> Table:
        """Return the table of this name; KeyError with all names if there is none."""
        try:
            return self._tables[name]
        except KeyError:
            known = ", ".join(self._tables) or "none"
            raise KeyError(f"no table {name!r}; the store has: {known}") from None

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
        """Pool bags of rows of many tables in one call, whose misses are fetched as one batch.

        Parameters
        ----------
        indices : (nnz,) int32 or int64
            Rows, table-major: those of all bags of the first table, then of the second, …
        offsets : (T * B + 1,) int32 or int64
            Bag ``b`` of table ``t`` is ``indices[offsets[t*B+b]:offsets[t*B+b+1]]``. Without
            `include_last_offset` the last one, the end of the last bag, is left out.
        tables : sequence of str or Table, optional
            The T tables; by default all of the store, in order of creation.
        mode : {"sum", "mean", "max"}
            How a bag is pooled; an empty one gives zeros.
        per_sample_weights : (nnz,) float32, optional
            What each row is multiplied with (float64 for tables of float64); mode "sum" only.
        include_last_offset : bool
            Whether `offsets` holds the end of the last bag.
        padding_idx : (T,) sequence of int or None, optional
            A row of each table that its bags leave out.
        out : writable buffer, optional
            Where the result goes.

        Returns
        -------
        (B, D) array
            D is the sum of the tables' dims, in order: of the tables' type where they share one,
            else float32. `out` itself where it was given.

        Raises
        ------
        IndexError
            For an index out of range, named with its table; nothing is done then.
        ValueError, TypeError
            For offsets that do not ascend from 0 within the indices, wrong shapes or types, or a
            closed store.
        OSError
            Where a row cannot be read; the rest of the store serves on.
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
        """Have the rows of a coming `embedding_bag` call fetched in the background.

        A hint: it returns at once, and what does not fit into the queue is dropped and counted.

        Parameters
        ----------
        indices, offsets, tables, include_last_offset
            As for `embedding_bag`.

        Returns
        -------
        int
            Rows queued; those resident already are not.
        """
        positions = positions_of(self, tables)
        return self._core.prefetch(positions, indices, offsets, include_last_offset, self._bounds)

    def _warn_out_of_range(self, outside: int) -> None:
        """Log the first call that has indices out of range; `stats` counts all of them."""
        if self._first_out_of_range.acquire(blocking=False):
            _LOG.warning(
                "%d indices of a call are out of range and were served as row 0 "
                "(bounds_check_mode='warning'); further ones are only counted, in "
                "stats().lookup.out_of_range",
                outside,
            )

    @contextmanager
    def record(
        self, max_lookups: int | None = None, *, ring_bytes: int | str = "8MiB"
    ) -> Iterator[Recorder]:
        """Record the accesses of lookups while the context lasts, also beside a learned policy.

        Parameters
        ----------
        max_lookups : int, optional
            Accesses kept at most; later ones are counted and not kept. Without it memory grows with
            the accesses, 8 bytes each and 4 bytes per sample.
        ring_bytes : int or str
            Memory of each serving thread for the accesses of a few milliseconds, rounded up to a
            power of two: 8 bytes per access, 4 per bag and 8 per table of a call.

        Yields
        ------
        Recorder
            `to_trace` makes a trace; `drain` is for learners that follow a serving store.

        Raises
        ------
        RuntimeError
            While the store is being recorded already.
        ValueError
            For sizes out of range, or a closed store.

        Examples
        --------
        >>> with store.record(max_lookups=10_000_000) as recorder:
        ...     serve(store)
        >>> tieralloc.trace.write(recorder.to_trace("monday"), "monday.npz")
        """
        size = parse_size(ring_bytes, "ring_bytes")
        check_range("ring_bytes", size, 16, 1 << 31)
        if self._recorder is not None:
            raise RuntimeError("the store is being recorded already; end that recording first")
        from tieralloc.trace.recorder import Recorder

        recorder = Recorder(self._core, max_lookups=max_lookups, ring_bytes=size)
        recorder._begin()
        self._recorder = recorder
        try:
            yield recorder
        finally:
            self._recorder = None
            recorder._end()

    @refuse_renamed
    def use_policy(self, policy: str | LearnedPolicy) -> None:
        """Replace the policy that decides which rows are evicted from the fast tier.

        Resident rows stay. Lookups wait while the rows are handed to the new policy, some tens of
        nanoseconds per resident row.

        A learned policy works in a background thread of the core. It compares itself with simple
        policies in miniature simulations, and one of these is active while it misses less. While
        the policy pauses, or after it failed, a simple one is active, s3fifo unless its directory
        names another; `stats` has its state.

        Parameters
        ----------
        policy : str or LearnedPolicy
            As for `TieredStore`.

        Raises
        ------
        ValueError
            For an unknown policy, a directory that does not hold it, a policy that was trained for
            other tables, too little memory for it, or a closed store. The former policy stays
            active then.
        OSError
            If a directory cannot be read.
        ImportError
            For a learned policy if torch is missing.
        """
        self._policy.use(self._core, policy, self._rows_of_tables())

    def _rows_of_tables(self) -> list[tuple[str, int]]:
        return [(table.name, table.num_embeddings) for table in self._tables.values()]

    def stats(self) -> StoreStats:
        """Return statistics since the store was opened or `reset_stats` was called.

        Returns
        -------
        tieralloc.stats.StoreStats
            A frozen dataclass, with the units of every field; ``.to_dict()`` makes nested dicts.
            `StoreStats.policy_stats` covers the time since the policy started.
        """
        planned = self._policy.planned
        policy_stats = None if planned is None else planned.stats(self._core.policy_stats())
        return StoreStats.of(
            {**self._core.stats(), "policy": self._policy.name, "policy_stats": policy_stats}
        )

    def reset_stats(self) -> None:
        """Set all counters and histograms to 0; resident rows stay."""
        self._core.reset_stats()

    def flush(self) -> None:
        """Return once every update made before is in the slow tier for good.

        Raises
        ------
        OSError
            Where a row could not be written; it stays in the fast tier.
        """
        self._core.flush()

    def close(self) -> None:
        """Flush and end the store; closing twice does nothing.

        Raises
        ------
        OSError
            Where a row could not be written; the store stays open.
        """
        self._core.close()
        self._finalizer.detach()

    def __enter__(self) -> TieredStore:
        if self.closed:
            raise ValueError("the store is closed; open it again with TieredStore(path)")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<TieredStore{state} tables={list(self._tables)} policy={self._policy.name!r}>"


def _end_core(core: _bindings.Store) -> None:
    if core.belongs_here:
        core.close()


def _checked_bytes(fast_bytes: int | str) -> int:
    size = parse_size(fast_bytes, "fast_bytes")
    if size >= 1 << 63:
        raise MemoryError(f"fast_bytes is {fast_bytes!r}, more than any machine has")
    return size

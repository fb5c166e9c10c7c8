"""A store: tables of embedding vectors in two tiers, a slow one and a pool of DRAM before it."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsIndex

from tieralloc import _bindings
from tieralloc._common.numbers import as_integer, parse_size
from tieralloc.policy.planned import load_planned
from tieralloc.recorder import Recorder
from tieralloc.stats import StoreStats
from tieralloc.table import Table, of_store
from tieralloc.tiers import EmulatedMemory, NumaNode, SlowMemory, parse_cpus

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

_LOG = logging.getLogger("tieralloc")


class TieredStore:
    """Tables whose rows live in a slow tier and are served from a fast one.

    The slow tier holds every row; the fast tier, a pool of DRAM, holds copies of those that the
    policy keeps. All methods may be called from any number of threads; the GIL is released while
    they work. A forked child cannot use the store (ValueError): it must open one of its own.

    Parameters
    ----------
    path : path, optional
        The file to be made as the slow tier. `open` opens one that there is.
    slow : NumaNode or EmulatedMemory, optional
        Memory as the slow tier instead of a file. Its rows are read where they lie, and end with
        the store.
    fast_bytes : int or str
        All the DRAM that the tables may take: vectors, index and metadata, such as ``"64MiB"``. A
        learned policy's comes on top (`policy_bytes`).
    fast_rows : int
        The rows of the fast tier instead, for experiments. With `slow` it may be 0: no fast tier,
        every row is read where it lies.
    policy : str
        What decides which rows are evicted: "lru", "lfu", "clock", "sieve", "s3fifo" or "random",
        or a learned policy and the directory that holds it, such as "recmg:DIR" (`use_policy`). A
        learned policy starts once the store has the tables that it was trained for.
    policy_bytes : int or str, optional
        What a learned policy may take, as for `use_policy`.
    auto_pause : bool
        Whether a learned policy pauses while it costs more than it saves, as for `use_policy`.
    prefetch_cost : float, optional
        What a prefetched row costs a learned policy, as for `use_policy`.
    bounds_check_mode : {"fatal", "warning"}
        What an index out of range does in a lookup: raise IndexError, or serve row 0, be counted
        in `stats` and logged once. A prefetch passes over it in "warning"; in `Table.update` and
        `Table.pin` it is an error always.
    engine : str
        How rows are read from the file: "auto" takes the first of `tieralloc doctor`'s list that
        works here.
    direct : bool
        Bypass the kernel's page cache where the file system lets us; else pages are dropped behind
        each read.
    reserve : bool
        Take the disk blocks of a table when it is made, so that a full disk is an error then and
        not later.
    queue_depth : int
        Reads of one call under way at a time. Many, because a device's queue runs low at the end of
        every call.
    prefetch_threads : int
        Background threads that serve `prefetch`.
    seed : int
        For policies that draw at random.
    fast_node : int, optional
        The NUMA node that the fast tier is bound to; by default its memory lies where the kernel
        puts it.
    strict : bool
        Whether it is an error (OSError) that the kernel refuses to bind memory to a node, as a
        container's seccomp profile may have it. Else the store goes on unbound and says so in
        `stats`.
    cpus : sequence of int or str, optional
        Processors that the threads in the background run on, such as ``"0-3,8"``. By default, with
        a `NumaNode`, those of its node, or, where that has none, those that the thread that makes
        the store may not run on; any otherwise.
    admission : {"auto", "always", "never"}
        With `slow`: whether a row that was read in place is copied to the fast tier. "auto" copies
        it once reading it in place has cost as much as a copy does, and tries out now and then
        whether lookups are faster with copies than without; "always" copies every row at once,
        "never" none.

    Raises
    ------
    FileExistsError
        Where there is a file at `path`.
    OSError
        Where the file cannot be made or is locked by another store; there is no file then.
    ValueError
        For options that make no sense, or a node that does not exist, is offline, has no memory, or
        lies outside the cpuset.
    MemoryError
        For more DRAM than the machine, or `fast_node`, has available.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        slow: SlowMemory | None = None,
        fast_bytes: int | str | None = None,
        fast_rows: int | None = None,
        policy: str = "s3fifo",
        policy_bytes: int | str | None = None,
        auto_pause: bool = True,
        prefetch_cost: float | None = None,
        bounds_check_mode: str = "fatal",
        engine: str = "auto",
        direct: bool = True,
        reserve: bool = True,
        queue_depth: int = 256,
        prefetch_threads: int = 1,
        seed: int = 0,
        fast_node: int | None = None,
        strict: bool = True,
        cpus: Sequence[int] | str | None = None,
        admission: str = "auto",
    ) -> None:
        if (path is None) == (slow is None):
            raise ValueError(
                f"expected a path or slow=, one of them, got path={path!r} and slow={slow!r}"
            )
        if slow is not None and not isinstance(slow, (NumaNode, EmulatedMemory)):
            raise TypeError(f"slow is {slow!r}, expected a NumaNode or an EmulatedMemory")
        self._begin(
            path,
            create=True,
            slow=slow,
            fast_bytes=fast_bytes,
            fast_rows=fast_rows,
            policy=policy,
            policy_bytes=policy_bytes,
            auto_pause=auto_pause,
            prefetch_cost=prefetch_cost,
            bounds_check_mode=bounds_check_mode,
            engine=engine,
            direct=direct,
            reserve=reserve,
            queue_depth=queue_depth,
            prefetch_threads=prefetch_threads,
            seed=seed,
            fast_node=fast_node,
            strict=strict,
            cpus=cpus,
            admission=admission,
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        fast_bytes: int | str | None = None,
        fast_rows: int | None = None,
        policy: str = "s3fifo",
        policy_bytes: int | str | None = None,
        auto_pause: bool = True,
        prefetch_cost: float | None = None,
        bounds_check_mode: str = "fatal",
        engine: str = "auto",
        direct: bool = True,
        reserve: bool = True,
        queue_depth: int = 256,
        prefetch_threads: int = 1,
        seed: int = 0,
        fast_node: int | None = None,
        strict: bool = True,
        cpus: Sequence[int] | str | None = None,
    ) -> TieredStore:
        """Open the file of a store that was closed, with its tables.

        Parameters
        ----------
        path : path
            The file.
        fast_bytes, fast_rows, policy, policy_bytes, auto_pause, prefetch_cost, \
        bounds_check_mode, engine, direct, reserve, queue_depth, prefetch_threads, seed, \
        fast_node, strict, cpus
            As for `TieredStore`; nothing of them is kept in the file.

        Raises
        ------
        OSError
            Where the file cannot be opened, is read-only, or open in another store.
        ValueError
            Where it is not a store's file, is damaged, truncated or of a newer version. Nothing is
            changed then. Also for a slow tier in memory: there is nothing to open.
        """
        if isinstance(path, (NumaNode, EmulatedMemory)):
            raise ValueError(
                f"a slow tier in memory ({path}) ends with its store: there is nothing to open; "
                "make a store with slow= and load its tables"
            )
        store = cls.__new__(cls)
        store._begin(
            path,
            create=False,
            fast_bytes=fast_bytes,
            fast_rows=fast_rows,
            policy=policy,
            policy_bytes=policy_bytes,
            auto_pause=auto_pause,
            prefetch_cost=prefetch_cost,
            bounds_check_mode=bounds_check_mode,
            engine=engine,
            direct=direct,
            reserve=reserve,
            queue_depth=queue_depth,
            prefetch_threads=prefetch_threads,
            seed=seed,
            slow=None,
            fast_node=fast_node,
            strict=strict,
            cpus=cpus,
            admission="auto",
        )
        return store

    def _begin(
        self,
        path: str | os.PathLike[str] | None,
        *,
        create: bool,
        slow: SlowMemory | None,
        fast_bytes: int | str | None,
        fast_rows: int | None,
        policy_bytes: int | str | None,
        auto_pause: bool,
        prefetch_cost: float | None,
        bounds_check_mode: str,
        fast_node: int | None,
        cpus: Iterable[int] | str | None,
        **options: Any,
    ) -> None:
        if (fast_bytes is None) == (fast_rows is None):
            raise ValueError(
                f"expected one of fast_bytes and fast_rows, got fast_bytes={fast_bytes!r} and "
                f"fast_rows={fast_rows!r}"
            )
        if bounds_check_mode not in ("fatal", "warning"):
            raise ValueError(
                f"bounds_check_mode is {bounds_check_mode!r}, expected 'fatal' or 'warning'"
            )
        _check_range("queue_depth", options["queue_depth"], 1, 4096)
        _check_range("prefetch_threads", options["prefetch_threads"], 1, 32)
        _check_range("seed", options["seed"], 0, (1 << 64) - 1)
        if fast_rows is not None:
            _check_range("fast_rows", fast_rows, 1 if slow is None else 0, (1 << 63) - 1)
        if fast_node is not None:
            _check_range("fast_node", fast_node, 0, (1 << 31) - 1)
        policy = options["policy"]
        is_learned = isinstance(policy, str) and ":" in policy  # what is no name the core refuses
        most = None if policy_bytes is None else parse_size(policy_bytes, "policy_bytes")
        planned = None
        if is_learned:
            planned = load_planned(
                policy, max_bytes=most, auto_pause=auto_pause, prefetch_cost=prefetch_cost
            )
        file = None if path is None else os.fsencode(path)
        if file is not None and b"\0" in file:
            raise ValueError(f"path is {path!r}, expected one without NUL bytes")
        self._core = _bindings.Store(
            file,
            create=create,
            memory=None if slow is None else slow._core_options,
            fast_bytes=0 if fast_bytes is None else _checked_bytes(fast_bytes),
            fast_rows=0 if fast_rows is None else fast_rows,
            fast_node=-1 if fast_node is None else fast_node,
            cpus=parse_cpus(cpus),
            **{**options, "policy": options["policy"] if planned is None else planned.fallback},
        )
        self._bounds = bounds_check_mode
        self._policy: str = options["policy"]
        self._first_out_of_range = threading.Lock()  # taken by the first one, for good
        self._recorder: Recorder | None = None
        self._tables: dict[str, Table] = {}
        self._learn_tables()
        self._policy_lock = threading.RLock()  # over changes of the policy
        self._planned = planned
        # Runs when the store is forgotten or the interpreter ends: updates are still written back.
        self._finalizer = weakref.finalize(self, _end_core, self._core)
        try:
            self._fit_policy()
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

        Takes time and disk for the file to grow; of DRAM it takes its share of the budget, in
        proportion to the tables' bytes. The fast tier is laid out anew: its copies and pins are
        forgotten, so make all tables before serving.

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
            For a name that is taken, no rows or no elements, an unknown dtype, or where the
            budget would leave a table less than one row. Also for too few `policy_bytes`, where
            the learned policy would start: the table is made then, and the policy's fallback
            decides.
        MemoryError
            Where the fast tier would take more DRAM than there is.
        OSError
            Where the file cannot grow (ENOSPC); it is then as it was.
        """
        _check_range("num_embeddings", num_embeddings, 1, 1 << 48)
        _check_range("embedding_dim", embedding_dim, 1, 1 << 20)
        self._core.create_table(name, num_embeddings, embedding_dim, _dtype_name(dtype))
        self._learn_tables()
        self._fit_policy()
        return self._tables[name]

    def table(self, name: str) -> Table:
        """Return the table of this name; KeyError, naming those there are, if there is none."""
        try:
            return self._tables[name]
        except KeyError:
            known = ", ".join(self._tables) or "none"
            raise KeyError(f"no table {name!r}; the store has: {known}") from None

    def embedding_bag(
        self,
        indices: ArrayLike,
        offsets: ArrayLike,
        tables: Sequence[str | Table] | None = None,
        mode: str = "sum",
        per_sample_weights: ArrayLike | None = None,
        include_last_offset: bool = True,
        padding_idx: Sequence[int | None] | None = None,
        out: Any = None,
    ) -> Any:
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
        positions = self._positions(tables)
        paddings = self._paddings(positions, padding_idx)
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
        positions = self._positions(tables)
        return self._core.prefetch(positions, indices, offsets, include_last_offset, self._bounds)

    def _positions(self, tables: Sequence[str | Table] | None) -> Sequence[int]:
        if tables is None:
            return range(len(self._tables))
        if isinstance(tables, (str, Table)):  # a string is a sequence of names, of one letter each
            raise TypeError(f"tables is {tables!r}, expected a sequence of names or tables")
        return [self._position(table) for table in tables]

    def _position(self, table: str | Table) -> int:
        if isinstance(table, str):
            return self.table(table).position
        if not isinstance(table, Table):
            raise TypeError(f"tables hold {table!r}, expected names or tables")
        return of_store(self, table).position

    def _paddings(
        self, positions: Sequence[int], padding_idx: Sequence[int | None] | None
    ) -> Sequence[int] | None:
        if padding_idx is None:
            return None
        if not isinstance(padding_idx, Sequence):
            raise TypeError(f"padding_idx is {padding_idx!r}, expected an entry for each table")
        if len(padding_idx) != len(positions):
            raise ValueError(
                f"padding_idx has {len(padding_idx)} entries, expected one for each of the "
                f"{len(positions)} tables, None where a table has none"
            )
        tables = list(self._tables.values())
        return [
            -1 if row is None else tables[position]._padding(row)
            for position, row in zip(positions, padding_idx, strict=True)
        ]

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
        _check_range("ring_bytes", size, 16, 1 << 31)
        if self._recorder is not None:
            raise RuntimeError("the store is being recorded already; end that recording first")
        recorder = Recorder(self._core, max_lookups=max_lookups, ring_bytes=size)
        recorder._begin()
        self._recorder = recorder
        try:
            yield recorder
        finally:
            self._recorder = None
            recorder._end()

    if not TYPE_CHECKING:  # an unknown attribute stays an error for type checkers

        def __getattr__(self, name: str) -> Any:
            if name == "access_log":
                raise AttributeError("TieredStore.access_log: use TieredStore.record")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def use_policy(
        self,
        policy: str,
        *,
        policy_bytes: int | str | None = None,
        auto_pause: bool = True,
        prefetch_cost: float | None = None,
    ) -> None:
        """Have another policy decide which rows are evicted from the fast tier, from now on.

        Resident rows stay. Lookups go on; they wait while the rows are handed over, some tens of
        nanoseconds per resident row.

        A learned policy works in a background thread of the core. It compares itself with simple
        policies in miniature simulations, and one of these is active while it misses less. Where
        the policy fails, and while it pauses, a simple one decides, s3fifo unless its directory
        says otherwise; `stats` tells.

        Parameters
        ----------
        policy : str
            As for `TieredStore`. Models are programs: load those only whose maker you trust.
        policy_bytes : int or str, optional
            Bytes that a learned policy may take beside `fast_bytes`, such as "64MiB"; with fewer it
            remembers fewer rows. Without it, it takes at most 128 for each row of the fast tier, or
            2 MiB if that is more, and "recmg", which also prefetches, 384 a row more, or 64 MiB.
            The access rings take 512 KiB for each thread that serves, besides.
        auto_pause : bool
            Whether a learned policy pauses while the time that it saves calls is worth less than
            the CPU time that it takes. It runs now and then to be judged again.
        prefetch_cost : float, optional
            What a prefetched row costs, as a share of an on-demand fetch, from 0 (only on-demand
            fetches count) to 1; 0.02 by default. Rows less likely to be used are not prefetched.

        Raises
        ------
        ValueError
            For an unknown policy, a directory that does not hold it, one that was trained for
            other tables, too few `policy_bytes`, or a closed store. The former policy goes on
            then.
        OSError
            Where a directory cannot be read.
        ImportError
            For a learned policy where torch is missing.
        """
        with self._policy_lock:
            if isinstance(policy, str) and ":" not in policy:
                if policy not in _bindings.eviction_policy_names():
                    known = ", ".join(_bindings.eviction_policy_names())
                    raise ValueError(f"policy {policy!r} is unknown; known are {known}")
                self._core.use_policy(policy)
                self._policy, self._planned = policy, None
                return
            if not isinstance(policy, str):
                raise TypeError(f"policy: expected a name or NAME:DIR, got {policy!r}")
            most = None if policy_bytes is None else parse_size(policy_bytes, "policy_bytes")
            planned = load_planned(
                policy, max_bytes=most, auto_pause=auto_pause, prefetch_cost=prefetch_cost
            )
            planned.start(self._core, self._rows_of_tables())
            self._policy, self._planned = policy, planned

    def _rows_of_tables(self) -> list[tuple[str, int]]:
        return [(table.name, table.num_embeddings) for table in self._tables.values()]

    def _fit_policy(self) -> None:
        """Start the learned policy where the tables are its own; a new layout has ended it."""
        with self._policy_lock:
            if self._planned is None:
                return
            try:
                self._planned.trained.directory.check_tables(self._rows_of_tables())
            except ValueError:
                self._core.use_policy(self._planned.fallback)
                return
            try:
                self._planned.start(self._core, self._rows_of_tables())
            except BaseException:
                self._policy, self._planned = self._planned.fallback, None
                raise

    def stats(self) -> StoreStats:
        """Return statistics since the store was opened or `reset_stats` was called.

        Returns
        -------
        tieralloc.stats.StoreStats
            A frozen dataclass, with the units of every field; ``.to_dict()`` makes nested dicts.
            `StoreStats.policy_stats` covers the time since the policy started.
        """
        planned = self._planned
        policy_stats = None if planned is None else planned.stats(self._core.policy_stats())
        return StoreStats.of(
            {**self._core.stats(), "policy": self._policy, "policy_stats": policy_stats}
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
            raise ValueError("the store is closed; open it again with TieredStore.open")
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
        return f"<TieredStore{state} tables={list(self._tables)} policy={self._policy!r}>"


def _end_core(core: _bindings.Store) -> None:
    if core.belongs_here:
        core.close()


def _checked_bytes(fast_bytes: int | str) -> int:
    size = parse_size(fast_bytes, "fast_bytes")
    if size >= 1 << 63:
        raise MemoryError(f"fast_bytes is {fast_bytes!r}, more than any machine has")
    return size


def _check_range(what: str, value: SupportsIndex, least: int, most: int) -> None:
    number = as_integer(what, value)
    if not least <= number <= most:
        raise ValueError(f"{what} is {number}, expected {least} to {most}")


def _dtype_name(dtype: DTypeLike | str) -> str:
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    return name.removeprefix("torch.")

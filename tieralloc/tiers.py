"""Slow tiers: a file, or the memory of a NUMA node. `tieralloc.checkpoint` has another one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias, TypedDict, get_args, runtime_checkable

from tieralloc._bindings import Checkpoint, limits
from tieralloc._common.numbers import as_integer, check_range, parse_memory

__all__ = [
    "CoreOptions",
    "Durability",
    "Engine",
    "FastOptions",
    "File",
    "Mode",
    "NumaMemory",
    "Promotion",
    "SlowTier",
    "check_reads",
    "core_options",
    "fast_tier",
    "memory_options",
    "node_of",
    "parse_cpus",
    "slow_tier",
]

Engine: TypeAlias = Literal["auto", "io_uring", "pread", "mmap"]
Mode: TypeAlias = Literal["r", "r+", "a", "w"]
Durability: TypeAlias = Literal["none", "flush", "commit"]
Promotion: TypeAlias = Literal["auto", "always", "never"]

_MODES: tuple[Mode, ...] = get_args(Mode)
_ENGINES: tuple[Engine, ...] = get_args(Engine)
_DURABILITIES: tuple[Durability, ...] = get_args(Durability)
_PROMOTIONS: tuple[Promotion, ...] = get_args(Promotion)


class CoreOptions(TypedDict):
    """Arguments of `tieralloc._bindings.Store` that depend on the slow tier."""

    path: bytes | None
    mode: str
    memory: tuple[int, bool, bool, float, int] | None
    checkpoint: Checkpoint | None
    engine: str
    direct: bool
    reserve: bool
    queue_depth: int
    durability: str
    write_back_interval: float
    prefetch_threads: int
    promotion: str


@runtime_checkable
class SlowTier(Protocol):
    """Interface of the slow tiers of a `tieralloc.TieredStore`."""

    @property
    def _in_memory(self) -> bool:
        """Whether rows are read in place."""

    @property
    def _read_only(self) -> bool:
        """Whether rows and tables cannot change."""

    def _core_options(self) -> CoreOptions:
        """Return the core's options."""


def core_options() -> CoreOptions:
    """Return options of the core, placeholders that a slow tier replaces."""
    return {
        "path": None,
        "mode": "w",
        "memory": None,
        "checkpoint": None,
        "engine": "auto",
        "direct": True,
        "reserve": True,
        "queue_depth": 1,
        "durability": "none",
        "write_back_interval": 5.0,
        "prefetch_threads": 1,
        "promotion": "auto",
    }


def check_reads(engine: str, queue_depth: int, direct: bool, prefetch_threads: int) -> None:
    """Raise ValueError or TypeError unless the options of the reads of files are valid."""
    _check_choice("engine", engine, _ENGINES)
    check_range("queue_depth", queue_depth, 1, limits.MAX_QUEUE_DEPTH)
    check_range("prefetch_threads", prefetch_threads, 1, limits.MAX_PREFETCH_THREADS)
    _check_flag("direct", direct)


@dataclass(frozen=True)
class File:
    """A file as the slow tier: ``TieredStore(slow=File("emb.tier", mode="w"), ...)``.

    The store locks the file: one store may write it, or any number of stores may read it.

    Parameters
    ----------
    path : path
        The file.
    mode : {"a", "r+", "w", "r"}
        As in Python's `open`. "a" opens the file, or creates it if it is missing. "r+" opens an
        existing file. "w" creates the file or replaces a tieralloc file; any other file is refused.
        "r" opens the file to read: `TieredStore.create_table`, `Table.load` and `Table.update`
        raise `io.UnsupportedOperation`, and other stores may read the file at the same time.
    engine : {"auto", "io_uring", "pread", "mmap"}
        Engine of the reads: "auto" is the first in the list of `tieralloc doctor` that can read the
        file. An engine that cannot is an OSError.
    queue_depth : int
        Max in-flight reads per call, 1 to 4096.
    direct : bool
        Whether reads bypass the kernel's page cache, if the file system supports it for blocks of
        4 KiB. Otherwise pages are dropped after each read, and `tieralloc.stats.SlowTierStats` says
        so.
    reserve : bool
        Whether `create_table` allocates the disk blocks of the table, so that a full disk is an
        error then and not later.
    durability : {"flush", "commit", "none"}
        When updates survive a power cut. "flush": after `TieredStore.flush`, and without it after
        `write_back_interval`. "commit": when `Table.update` returns. "none": after
        `TieredStore.flush` only. An update survives the end of the process in each case.
    write_back_interval : float
        Seconds until an update is durable without a flush, above 0.
    prefetch_threads : int
        Background threads for prefetches, 1 to 32.
    warm_restart_interval : float, optional
        Seconds between saves of the resident rows to ``path.warm``, and of what a learned policy
        has learnt to ``path.policy``, above 0. They are also saved when the store closes, and are
        brought back in the background when it opens the file again. None: no such files, and the
        fast tier and the policy start empty.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    mode: Mode = "a"
    engine: Engine = "auto"
    queue_depth: int = 256
    direct: bool = True
    reserve: bool = True
    durability: Durability = "flush"
    write_back_interval: float = 5.0
    prefetch_threads: int = 1
    warm_restart_interval: float | None = 300.0

    _in_memory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, bytes, os.PathLike)):
            raise TypeError(f"path: expected a path, got {self.path!r}")
        if b"\0" in os.fsencode(self.path):
            raise ValueError(f"path: expected a path without NUL bytes, got {self.path!r}")
        _check_choice("mode", self.mode, _MODES)
        check_reads(self.engine, self.queue_depth, self.direct, self.prefetch_threads)
        _check_flag("reserve", self.reserve)
        _check_choice("durability", self.durability, _DURABILITIES)
        if not 1e-3 <= self.write_back_interval <= 1e6:
            raise ValueError(
                f"write_back_interval: expected .001 to 1e6 seconds, got {self.write_back_interval}"
            )
        if self.durability == "none" and self.write_back_interval != 5.0:
            raise ValueError("write_back_interval: no effect with durability='none'")
        if self.warm_restart_interval is not None and not 0 < self.warm_restart_interval <= 1e6:
            raise ValueError(
                "warm_restart_interval: expected None, or seconds above 0 and up to 1e6, got "
                f"{self.warm_restart_interval}"
            )
        if self.mode == "r" and not self.reserve:
            raise ValueError("reserve: no effect with mode='r'; expected True, got False")

    def __str__(self) -> str:
        return f"file:{os.fsdecode(self.path)}"

    @property
    def _read_only(self) -> bool:
        return self.mode == "r"

    def _core_options(self) -> CoreOptions:
        """Return the core's options."""
        return {
            **core_options(),
            "path": os.fsencode(self.path),
            "mode": self.mode,
            "engine": self.engine,
            "direct": self.direct,
            "reserve": self.reserve,
            "queue_depth": self.queue_depth,
            "durability": self.durability,
            "write_back_interval": self.write_back_interval,
            "prefetch_threads": self.prefetch_threads,
        }


@dataclass(frozen=True)
class NumaMemory:
    """Memory of a NUMA node: as the slow tier, ``TieredStore(slow=NumaMemory(1), ...)``, or fast.

    Rows of a slow tier in memory are read in place. Closing the store deletes them.

    Parameters
    ----------
    node : int
        Number of the node in the list of `tieralloc doctor`.
    strict : bool
        Whether to raise OSError if the kernel refuses to bind memory to the node, for example by
        the seccomp profile of a container. Otherwise the memory stays unbound, and
        `TieredStore.stats` shows it.
    spill : bool
        Whether pages may be on other nodes if the node has too little memory; `TieredStore.stats`
        counts them. Otherwise `TieredStore.create_table` raises MemoryError.
    promotion : {"auto", "always", "never"}
        Promotion policy of a slow tier, whose rows are read in place. "auto" copies a row to the
        fast tier once its reads in place have cost as much as a copy, and repeats A/B probes of
        lookups with and without copies. "always" copies each row at its first read, "never" none.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    """

    node: int
    _: KW_ONLY
    strict: bool = True
    spill: bool = False
    promotion: Promotion = "auto"

    _in_memory: ClassVar[bool] = True
    _read_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("node", self.node, 0, (1 << 31) - 1)
        _check_flag("strict", self.strict)
        _check_flag("spill", self.spill)
        _check_choice("promotion", self.promotion, _PROMOTIONS)

    def __str__(self) -> str:
        return f"numa:{self.node}" + (":prefer" if self.spill else "")

    @property
    def _binding(self) -> tuple[int, bool, bool]:
        """Node, spill and strict."""
        return (self.node, self.spill, self.strict)

    def _core_options(self) -> CoreOptions:
        """Return the core's options."""
        return memory_options((*self._binding, 0.0, 1), self.promotion)


def memory_options(memory: tuple[int, bool, bool, float, int], promotion: str) -> CoreOptions:
    """Return the core's options of a slow tier in memory."""
    _check_choice("promotion", promotion, _PROMOTIONS)
    return {**core_options(), "memory": memory, "promotion": promotion}


def slow_tier(
    path: str | os.PathLike[str] | None, slow: SlowTier | None, mode: Mode | None
) -> SlowTier:
    """Return `slow`, or the file of `path` and `mode`."""
    if (path is None) == (slow is None):
        raise ValueError(f"path, slow: expected one of them, got path={path!r} and slow={slow!r}")
    if slow is None:
        if isinstance(path, SlowTier):
            raise TypeError(f"path: expected a path; pass slow={path!r}")
        assert path is not None
        return File(path, mode="a" if mode is None else mode)
    if isinstance(slow, type) or not isinstance(slow, SlowTier):
        raise TypeError(f"slow: expected a File, NumaMemory or Checkpoint, got {slow!r}")
    if mode is not None:
        raise ValueError(f"mode: no effect with slow=; expected slow=File(path, mode={mode!r})")
    return slow


class FastOptions(TypedDict):
    """Arguments of `tieralloc._bindings.Store` that depend on the fast tier."""

    fast_bytes: int
    fast_rows: int
    fast_node: tuple[int, bool, bool]


def fast_tier(
    fast_bytes: int | str | None,
    fast_rows: int | None,
    fast_node: int | NumaMemory | None,
    *,
    in_memory: bool,
) -> FastOptions:
    """Return the core's options of a fast tier, in front of a slow tier in memory or in a file."""
    if (fast_bytes is None) == (fast_rows is None):
        raise ValueError(
            f"fast_bytes, fast_rows: expected one of them, got {fast_bytes!r} and {fast_rows!r}"
        )
    if fast_rows is not None:
        check_range("fast_rows", fast_rows, int(not in_memory), (1 << 63) - 1)
    return {
        "fast_bytes": 0 if fast_bytes is None else parse_memory(fast_bytes, "fast_bytes"),
        "fast_rows": 0 if fast_rows is None else fast_rows,
        "fast_node": node_of(fast_node),
    }


def node_of(fast_node: int | NumaMemory | None) -> tuple[int, bool, bool]:
    """Return node, spill and strict of the fast tier; node -1 for an unbound tier."""
    if fast_node is None:
        return (-1, False, True)
    if not isinstance(fast_node, NumaMemory):
        check_range("fast_node", fast_node, 0, (1 << 31) - 1)
        return NumaMemory(fast_node)._binding
    if fast_node.promotion != "auto":
        raise ValueError(
            f"promotion: no effect in fast_node; expected slow=NumaMemory(node, "
            f"promotion={fast_node.promotion!r})"
        )
    return fast_node._binding


def parse_cpus(cpus: str | Iterable[int] | None) -> list[int]:
    """Return processor numbers, ascending, from numbers or a list as the kernel writes it.

    Raises
    ------
    ValueError
        If a string is not a list such as ``"0-3,8"``, or the list is empty or has a number below 0.
    TypeError
        If an entry is not an integer.
    """
    if cpus is None:
        return []
    if isinstance(cpus, str):
        if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", cpus) is None:
            raise ValueError(f"cpus: expected processors such as '0-3,8', got {cpus!r}")
        numbers: list[int] = []
        for span in cpus.split(","):
            first, _, last = span.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    else:
        numbers = [as_integer("cpus", cpu) for cpu in cpus]
    if not numbers or min(numbers) < 0:
        raise ValueError(f"cpus: expected one or more processors from 0, got {cpus!r}")
    return sorted(set(numbers))


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: expected one of {expected}, got {value!r}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {value!r}")

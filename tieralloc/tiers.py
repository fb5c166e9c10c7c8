"""Slow tiers in memory: that of a NUMA node, or of this one with a latency that is made up."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tieralloc._common.numbers import as_integer

_MOST_EXTRA_NS = 1_000_000
_MOST_OVERLAP = 1024


@dataclass(frozen=True)
class NumaNode:
    """Memory of a NUMA node as a slow tier: ``TieredStore(slow=NumaNode(1), ...)``.

    Parameters
    ----------
    node : int
        Its number, as ``tieralloc doctor`` lists them.
    mode : {"bind", "prefer"}
        What happens where the node has too little memory: "bind" raises MemoryError when a table is
        made; "prefer" lets pages go to other nodes, which `TieredStore.stats` counts.
    """

    node: int
    mode: Literal["bind", "prefer"] = "bind"

    def __post_init__(self) -> None:
        node = as_integer("node", self.node)
        if node < 0:
            raise ValueError(f"node is {node}, expected the number of a NUMA node, from 0 on")
        if self.mode not in ("bind", "prefer"):
            raise ValueError(f"mode is {self.mode!r}, expected 'bind' or 'prefer'")

    def __str__(self) -> str:
        return f"numa:{self.node}" + ("" if self.mode == "bind" else ":prefer")

    @property
    def _core_options(self) -> tuple[int, bool, float, int]:
        return (self.node, self.mode == "prefer", 0.0, 1)


@dataclass(frozen=True)
class EmulatedMemory:
    """Local memory with a stated extra latency as a slow tier, for machines without a second node.

    Whoever reads a row spins for `extra_ns` a cache line. CPU caches, which would hold some of the
    lines of real memory, make no difference to it, nor does its bandwidth end anywhere: it is a
    study's, and everything that shows a figure of it says "emulated".

    Parameters
    ----------
    extra_ns : float
        Nanoseconds a cache line, beyond what local memory takes.
    overlap : int
        Cache lines of a call whose extra latencies pass at the same time: 1 as in a chase of
        dependent loads, about 10 where a core keeps as many loads under way as it can.
    """

    extra_ns: float
    overlap: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.extra_ns) and 0 < self.extra_ns <= _MOST_EXTRA_NS):
            raise ValueError(
                f"extra_ns is {self.extra_ns}, expected above 0, at most {_MOST_EXTRA_NS:,}"
            )
        if not 1 <= as_integer("overlap", self.overlap) <= _MOST_OVERLAP:
            raise ValueError(f"overlap is {self.overlap}, expected 1 to {_MOST_OVERLAP:,}")

    def __str__(self) -> str:
        return f"emulated:{self.extra_ns:g}ns" + ("" if self.overlap == 1 else f"/{self.overlap}")

    @property
    def _core_options(self) -> tuple[int, bool, float, int]:
        return (-1, False, float(self.extra_ns), self.overlap)


#: What can be a slow tier besides a file.
SlowMemory = NumaNode | EmulatedMemory


def parse_cpus(cpus: str | Iterable[int] | None) -> list[int]:
    """Processors given as numbers or as the kernel lists them; none for None.

    Raises
    ------
    ValueError
        For a string that is no list such as ``"0-3,8"``, an empty one, or a number below 0.
    TypeError
        For what are no integers.
    """
    if cpus is None:
        return []
    if isinstance(cpus, str):
        if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", cpus) is None:
            raise ValueError(f"cpus is {cpus!r}, expected processors such as '0-3,8'")
        found: list[int] = []
        for part in cpus.split(","):
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
    else:
        found = [as_integer("cpus", cpu) for cpu in cpus]
    if not found or min(found) < 0:
        raise ValueError(f"cpus is {cpus!r}, expected one or more processors, from 0 on")
    return sorted(set(found))


def parse_slow(text: str) -> SlowMemory:
    """Return the slow tier that a word of the command line means.

    Raises
    ------
    ValueError
        For anything but ``numa:N``, ``numa:N:prefer``, ``emulated:150ns`` or ``emulated:150ns/10``.
    """
    if match := re.fullmatch(r"numa:(\d+)(?::(bind|prefer))?", text):
        return NumaNode(int(match[1]), "prefer" if match[2] == "prefer" else "bind")
    if match := re.fullmatch(r"emulated:\+?(\d+(?:\.\d+)?)(?:ns)?(?:/(\d+))?", text):
        return EmulatedMemory(float(match[1]), int(match[2] or 1))
    raise ValueError(
        f"slow tier {text!r} is unknown, expected file, numa:NODE, numa:NODE:prefer, "
        "emulated:150ns, or emulated:150ns/10 with 10 cache lines' latencies at a time"
    )

"""Slow tiers for experiments: local memory with an emulated latency, and tier names."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from tieralloc._common.numbers import check_range
from tieralloc.tiers import CoreOptions, NumaMemory, Promotion, memory_options

__all__ = ["EmulatedMemory"]

_MAX_EXTRA_NS = 1_000_000
_MAX_OVERLAP = 1024


@dataclass(frozen=True)
class EmulatedMemory:
    """Local memory with a stated extra latency as a slow tier, for machines without a second node.

    The thread that reads a row spins for `extra_ns` per cache line. Unlike memory of a remote node,
    it gains nothing from CPU caches and has no bandwidth limit. All results say "emulated".

    Parameters
    ----------
    extra_ns : float
        Nanoseconds per cache line, added to the latency of local memory.
    overlap : int
        Number of cache lines whose extra latencies overlap: 1 for dependent loads, about 10 for a
        core with the maximum number of loads in flight.
    promotion : {"auto", "always", "never"}
        As for `tieralloc.NumaMemory`.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    """

    extra_ns: float
    overlap: int = 1
    _: KW_ONLY
    promotion: Promotion = "auto"

    _in_memory: ClassVar[bool] = True
    _read_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.extra_ns) and 0 < self.extra_ns <= _MAX_EXTRA_NS):
            raise ValueError(
                f"extra_ns: expected above 0, at most {_MAX_EXTRA_NS:,}, got {self.extra_ns}"
            )
        check_range("overlap", self.overlap, 1, _MAX_OVERLAP)
        self._core_options()  # checks promotion

    def __str__(self) -> str:
        return f"emulated:{self.extra_ns:g}ns" + ("" if self.overlap == 1 else f"/{self.overlap}")

    def _core_options(self) -> CoreOptions:
        """Return the core's options."""
        memory = (-1, False, True, float(self.extra_ns), self.overlap)
        return memory_options(memory, self.promotion)


def parse_slow(text: str, promotion: Promotion = "auto") -> NumaMemory | EmulatedMemory:
    """Return the slow tier of a name of the command line.

    Raises
    ------
    ValueError
        If the name is not ``numa:N``, ``numa:N:prefer``, ``emulated:150ns`` or
        ``emulated:150ns/10``.
    """
    if match := re.fullmatch(r"numa:(\d+)(?::(bind|prefer))?", text):
        spill = match[2] == "prefer"
        return NumaMemory(int(match[1]), spill=spill, promotion=promotion)
    if match := re.fullmatch(r"emulated:\+?(\d+(?:\.\d+)?)(?:ns)?(?:/(\d+))?", text):
        return EmulatedMemory(float(match[1]), int(match[2] or 1), promotion=promotion)
    raise ValueError(
        f"slow tier {text!r}: unknown; expected file, numa:NODE, numa:NODE:prefer, emulated:150ns, "
        "or emulated:150ns/10 (the latencies of 10 cache lines overlap)"
    )

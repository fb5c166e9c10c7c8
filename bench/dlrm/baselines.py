"""Baselines: the tier of the rows, the policy, and the number of prefetched requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Baseline:
    """A configuration that serves the embeddings of a model."""

    policy: str  # of the fast tier; empty if all rows are in DRAM
    auto_pause: bool = True  # whether a learned policy pauses while it costs more than it saves
    queued: int = 0  # requests in the queue whose rows are prefetched
    memory: Literal["file", "store in DRAM", "torch in DRAM"] = "file"
    dtype: Literal["float32", "int8"] = "float32"
    is_arranged: bool = False  # whether the file has the rows in a learned order

    @property
    def is_budgeted(self) -> bool:
        """Whether all of its DRAM is what LRU takes for rows of float32, whatever it is for."""
        return self.dtype != "float32" or self.is_arranged

    @property
    def trained(self) -> str:
        """Name of the learned policy; empty for a simple policy."""
        if not self.policy.startswith("recmg"):
            return ""
        return "recmg" if self.policy == "recmg-caching" else self.policy

    @property
    def label(self) -> str:
        """Name in tables."""
        if self.memory != "file":
            return f"all in DRAM, {self.memory.partition(' ')[0]}"
        unpaused = "" if self.auto_pause else " (never paused)"
        ahead = f" + {self.queued} ahead" if self.queued else ""
        dtype = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{self.policy}{unpaused}{ahead}{dtype}{', arranged' if self.is_arranged else ''}"


LRU = "lru"
IN_TORCH = "all in DRAM, torch"
IN_STORE = "all in DRAM, store"

BASELINES = {
    baseline.label: baseline
    for baseline in (
        Baseline("", memory="torch in DRAM"),
        Baseline("", memory="store in DRAM"),
        Baseline(LRU),
        Baseline("s3fifo"),
        *(
            Baseline(policy, auto_pause)
            for auto_pause in (False, True)
            for policy in ("recmg-paper", "recmg-caching", "recmg")
        ),
        *(Baseline(LRU, queued=queued) for queued in (1, 2, 4)),
        *(Baseline(policy, queued=2) for policy in ("s3fifo", "recmg")),
        Baseline("recmg", auto_pause=False, queued=2),
        *(
            Baseline(policy, dtype=dtype, is_arranged=is_arranged)
            for dtype, is_arranged in (("int8", False), ("float32", True), ("int8", True))
            for policy in (LRU, "s3fifo", "recmg")
        ),
        *(
            Baseline(policy, queued=2, dtype="int8", is_arranged=True)
            for policy in (LRU, "s3fifo", "recmg")
        ),
    )
}

#: Baselines that also run at other capacities and in open loops.
SHORT = (IN_STORE, LRU, "s3fifo", "recmg (never paused)", "recmg", "lru + 2 ahead")
#: Baselines of a quick run.
FEW = (
    *(IN_TORCH, IN_STORE, LRU, "recmg (never paused)", "recmg", "lru + 2 ahead"),
    *("lru, int8", "lru, arranged", "lru + 2 ahead, int8, arranged"),
)

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
        return f"{self.policy}{unpaused}{f' + {self.queued} ahead' if self.queued else ''}"


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
    )
}

#: Baselines that also run at other capacities and in open loops.
SHORT = (IN_STORE, LRU, "s3fifo", "recmg (never paused)", "recmg", "lru + 2 ahead")
#: Baselines of a quick run.
FEW = (IN_TORCH, IN_STORE, LRU, "recmg (never paused)", "recmg", "lru + 2 ahead")

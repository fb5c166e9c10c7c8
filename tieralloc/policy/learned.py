"""The configuration of a learned policy."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass

from tieralloc._common.numbers import parse_size

__all__ = ["LearnedPolicy"]


@dataclass(frozen=True)
class LearnedPolicy:
    """A learned policy of a store: ``TieredStore(..., policy=LearnedPolicy("policy_dir"))``.

    Policy directories contain programs: load them only from trusted sources.

    Parameters
    ----------
    directory : path
        The policy directory, as ``tieralloc train`` writes it.
    name : str, optional
        Name of the policy; by default the name in the manifest.
    memory : int or str, optional
        Max bytes of the policy in addition to `fast_bytes`, such as ``"64MiB"``. The default is 128
        per row of the fast tier, at least 2 MiB, and for "recmg", which also prefetches, another
        384 per row, at least 64 MiB. The access rings take another 512 KiB per serving thread.
    prefetch_cost : float, optional
        Cost of a prefetched row as a share of an on-demand fetch, 0 to 1; 0.02 by default. With 0
        only on-demand fetches count. A row is not prefetched if its probability of use is lower.
    auto_pause : bool
        Whether the policy pauses while its CPU time costs more than the waiting time that it saves.
        A paused policy runs at intervals to be measured again.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    """

    directory: str | os.PathLike[str]
    _: KW_ONLY
    name: str | None = None
    memory: int | str | None = None
    prefetch_cost: float | None = None
    auto_pause: bool = True

    def __post_init__(self) -> None:
        if self.memory is not None:
            parse_size(self.memory, "memory")
        if self.prefetch_cost is not None and not 0 <= float(self.prefetch_cost) <= 1:
            raise ValueError(f"prefetch_cost: expected 0 to 1, got {self.prefetch_cost!r}")
        if not isinstance(self.auto_pause, bool):
            raise TypeError(f"auto_pause: expected a bool, got {self.auto_pause!r}")

    @property
    def _memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else parse_size(self.memory, "memory")

"""A policy that plans, on its way from its directory into a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import eviction_policy_names
from tieralloc.policy.directory import policy_name
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.policy.registry import load_policy

if TYPE_CHECKING:
    from tieralloc import _bindings
    from tieralloc.policy.trained import TrainedPolicy

__all__ = ["FALLBACK", "PREFETCH_COST", "PlannedPolicy", "load_planned"]

#: The simple policy beside a learned one that names none.
FALLBACK = "s3fifo"

#: What a prefetched row costs, as a share of an on-demand fetch (bench/README.md).
PREFETCH_COST = 0.02


@dataclass(frozen=True)
class PlannedPolicy:
    """What a store needs to run a learned policy.

    Parameters
    ----------
    name : str
        ``NAME:DIR``, as the store was asked for it.
    trained : TrainedPolicy
        The policy.
    fallback : str
        The simple policy that decides while this one does not.
    max_bytes : int or None
        Of memory that it may take; None: 128 for each fast row and 384 where it prefetches, or
        2 MiB and 64 MiB if that is more.
    auto_pause : bool
        Whether it pauses while it costs more than it saves.
    prefetch_cost : float
        What a prefetched row costs, as a share of an on-demand fetch.
    in_background : bool
        Whether a thread makes its steps; else `_bindings.Store.step_policy` does.
    """

    name: str
    trained: TrainedPolicy
    fallback: str
    max_bytes: int | None
    auto_pause: bool
    prefetch_cost: float
    in_background: bool = True

    def start(self, core: _bindings.Store, tables: Sequence[tuple[str, int]]) -> None:
        """Have a store run it; raise ValueError where it was trained for other tables."""
        self.trained.directory.check_tables(tables)
        core.use_planned(
            self.trained.model_for(sum(core.capacities())),
            self.fallback,
            pauses=self.auto_pause,
            in_background=self.in_background,
            max_bytes=self.max_bytes or 0,
            prefetch_cost=self.prefetch_cost,
            selects=True,
        )

    def stats(self, core: dict[str, Any] | None, accesses_dropped: int) -> dict[str, Any]:
        """Make the statistics of `TieredStore.stats`, from those of the core, if it runs there."""
        if core is None:
            core = {
                "state": "waiting",
                "reason": "the store's tables are not those it was trained for",
            }
        return {
            "policy": self.name,
            "fallback": self.fallback,
            "accesses_dropped": accesses_dropped,
            **core,
        }


def load_planned(policy: str | LearnedPolicy) -> PlannedPolicy:
    """Read the directory of a policy, whose setting "fallback" names a simple policy.

    Parameters
    ----------
    policy : str or LearnedPolicy
        ``NAME:DIR`` is short for ``LearnedPolicy(DIR, name=NAME)``.

    Raises
    ------
    ValueError
        For an unknown name, or a directory that does not hold the policy.
    OSError
        If the directory cannot be read.
    ImportError
        If torch is missing.
    """
    if isinstance(policy, str):
        name, _, directory = policy.partition(":")
        policy = LearnedPolicy(directory, name=name)
    path = os.fspath(policy.directory)
    name = policy_name(path) if policy.name is None else policy.name
    trained = load_policy(name, path)
    fallback = trained.directory.manifest.settings.get("fallback", FALLBACK)
    if fallback not in eviction_policy_names():
        known = ", ".join(eviction_policy_names())
        raise ValueError(f"{path}: fallback: expected one of {known}, got {fallback!r}")
    cost = PREFETCH_COST if policy.prefetch_cost is None else float(policy.prefetch_cost)
    return PlannedPolicy(
        f"{name}:{path}", trained, fallback, policy.memory_bytes, policy.auto_pause, cost
    )

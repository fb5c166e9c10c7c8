"""A policy that plans, on its way from its directory into a store."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import eviction_policy_names
from tieralloc.policy.directory import policy_name
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.policy.registry import load_policy
from tieralloc.stats import PolicyStats

if TYPE_CHECKING:
    from tieralloc import _bindings
    from tieralloc.policy.trained import TrainedPolicy

__all__ = [
    "FALLBACK",
    "PREFETCH_COST",
    "ActivePolicy",
    "PlannedPolicy",
    "is_simple",
    "load_planned",
]

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

    def stats(self, core: dict[str, Any]) -> PolicyStats:
        """Make the policy's statistics from those of the core, where it may not run yet."""
        if not core["state"]:
            reason = "the store's tables are not those it was trained for"
            core = {**core, "state": "waiting", "reason": reason}
        return PolicyStats.of({**core, "fallback": self.fallback})


class ActivePolicy:
    """The policy of a store; changes of it may come from any thread.

    Parameters
    ----------
    policy : str or LearnedPolicy
        As for `tieralloc.TieredStore`.

    Attributes
    ----------
    name : str
        The policy's, ``NAME:DIR`` for a learned one.
    planned : PlannedPolicy or None
        The learned policy, which may wait for its tables.

    Raises
    ------
    ValueError, OSError, ImportError
        As `load_planned` does.
    """

    def __init__(self, policy: str | LearnedPolicy) -> None:
        self._lock = threading.RLock()
        self.planned = None if is_simple(policy) else load_planned(policy)
        self.name = str(policy) if self.planned is None else self.planned.name

    @property
    def simple(self) -> str:
        """The simple policy that decides while no learned one does."""
        return self.name if self.planned is None else self.planned.fallback

    def use(
        self,
        core: _bindings.Store,
        policy: str | LearnedPolicy,
        tables: Sequence[tuple[str, int]],
    ) -> None:
        """Have a store run another policy; a failure leaves the former one."""
        with self._lock:
            if is_simple(policy):
                name = str(policy)
                if name not in eviction_policy_names():
                    known = ", ".join(eviction_policy_names())
                    raise ValueError(f"policy: {name!r} is unknown; expected one of {known}")
                core.use_policy(name)
                self.name, self.planned = name, None
                return
            planned = load_planned(policy)
            planned.start(core, tables)
            self.name, self.planned = planned.name, planned

    def fit(self, core: _bindings.Store, tables: Sequence[tuple[str, int]]) -> None:
        """Start the learned policy if it was trained for these tables; a new table has ended it."""
        with self._lock:
            if self.planned is None:
                return
            try:
                self.planned.trained.directory.check_tables(tables)
            except ValueError:
                core.use_policy(self.planned.fallback)
                return
            try:
                self.planned.start(core, tables)
            except BaseException:
                self.name, self.planned = self.planned.fallback, None
                raise


def is_simple(policy: str | LearnedPolicy) -> bool:
    """Whether a policy is a name without a directory; TypeError if it is none at all."""
    if not isinstance(policy, (str, LearnedPolicy)):
        raise TypeError(f"policy: expected a name, NAME:DIR or a LearnedPolicy, got {policy!r}")
    return isinstance(policy, str) and ":" not in policy


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

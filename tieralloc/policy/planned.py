"""Load a learned policy from its directory and run it in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import eviction_policy_names
from tieralloc._common.fork_lock import ForkLock
from tieralloc.policy.directory import policy_name
from tieralloc.policy.learned import LearnedPolicy
from tieralloc.policy.registry import load_policy

if TYPE_CHECKING:
    from tieralloc import _bindings
    from tieralloc._bindings.store_base import StoreBase
    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.stats import PolicyStats

__all__ = [
    "FALLBACK",
    "PREFETCH_COST",
    "ActivePolicy",
    "PlannedPolicy",
    "is_simple",
    "load_planned",
]

#: The fallback of a learned policy whose directory names none.
FALLBACK = "s3fifo"

#: Cost of a prefetched row, as a share of an on-demand fetch (bench/README.md).
PREFETCH_COST = 0.02


@dataclass(frozen=True)
class PlannedPolicy:
    """A loaded learned policy and its settings in a store."""

    name: str  # ``NAME:DIR``
    trained: TrainedPolicy  # the policy
    fallback: str  # the simple policy that is active while this one is not
    #: Max memory. None: 128 bytes per row of the fast tier, at least 2 MiB, and another 384 bytes,
    #: at least 64 MiB, if it prefetches.
    max_bytes: int | None
    auto_pause: bool  # whether the policy pauses while it costs more than it saves
    prefetch_cost: float  # cost of a prefetched row, as a share of an on-demand fetch
    #: Whether a background thread runs its steps; otherwise `_bindings.Store.step_policy` does.
    in_background: bool = True

    def fits(self, tables: Sequence[tuple[str, int]]) -> bool:
        """Whether the policy was trained for these tables."""
        try:
            self.check_tables(tables)
        except ValueError:
            return False
        return True

    def check_tables(self, tables: Sequence[tuple[str, int]], *, complete: bool = True) -> None:
        """Raise as `PolicyDirectory.check_tables`."""
        self.trained.directory.check_tables(
            tables, complete=complete, grown=self.trained.rows_may_grow
        )

    def start(self, core: _bindings.Store, tables: Sequence[tuple[str, int]]) -> None:
        """Start the policy in a store; ValueError if it was trained for other tables."""
        self.check_tables(tables)
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
        """Return the statistics of the policy, whose state in the core may be empty."""
        from tieralloc.stats import PolicyStats  # the store has imported it

        if not core["state"]:
            reason = "the tables of the store differ from those of the training trace"
            core = {**core, "state": "waiting", "reason": reason}
        return PolicyStats.of({**core, "fallback": self.fallback})


class ActivePolicy:
    """The policy of a store; thread-safe. Errors as for `load_planned`.

    Attributes
    ----------
    name : str
        Name of the policy, ``NAME:DIR`` if it is learned.
    planned : PlannedPolicy or None
        The learned policy, if any; it may be waiting for its tables.
    """

    def __init__(self, policy: str | LearnedPolicy) -> None:
        self._lock = ForkLock()
        self.planned = None if is_simple(policy) else load_planned(policy)
        self.name = str(policy) if self.planned is None else self.planned.name

    @property
    def simple(self) -> str:
        """The simple policy that is active while no learned policy is."""
        return self.name if self.planned is None else self.planned.fallback

    @property
    def state(self) -> tuple[str, PlannedPolicy | None]:
        """What `start_in` has started, if nothing has changed since."""
        return self.name, self.planned

    def start_in(
        self, core: _bindings.Store, tables: Sequence[tuple[str, int]]
    ) -> tuple[str, PlannedPolicy | None]:
        """Start the policy in another version of the store; return its `state`."""
        with self._lock:
            core.use_policy(self.simple)
            if self.planned is not None and self.planned.fits(tables):
                self.planned.start(core, tables)
            return self.state

    @contextmanager
    def unchanging(self) -> Iterator[bool]:
        """Prevent changes of the policy in the context; the value is False during a change."""
        is_unchanging = self._lock.acquire(blocking=False)
        try:
            yield is_unchanging
        finally:
            if is_unchanging:
                self._lock.release()

    def stats(self, core: StoreBase) -> PolicyStats | None:
        """Return the statistics of the learned policy; None if the policy is a simple one."""
        planned = self.planned
        return None if planned is None else planned.stats(core.policy_stats())

    def use(
        self, core: _bindings.Store, policy: str | LearnedPolicy, tables: Sequence[tuple[str, int]]
    ) -> None:
        """Replace the policy of a store; the former policy stays on an error."""
        with self._lock:
            if is_simple(policy):
                name = str(policy)
                _check_simple("policy", name)
                core.use_policy(name)
                self.name, self.planned = name, None
                return
            planned = load_planned(policy)
            planned.start(core, tables)
            self.name, self.planned = planned.name, planned

    def check(self, tables: Sequence[tuple[str, int]]) -> None:
        """Raise ValueError if the learned policy was trained for other tables than these.

        Missing tables can still be created.
        """
        with self._lock:
            if self.planned is not None:
                self.planned.check_tables(tables, complete=False)

    def check_next(self, tables: Sequence[tuple[str, int]], table: tuple[str, int]) -> None:
        """As `check`, of a table to create; one beyond the policy's stops it (`fit`)."""
        with self._lock:
            if self.planned is None:
                return
            if len(tables) < len(self.planned.trained.directory.manifest.tables):
                self.check([*tables, table])

    @contextmanager
    def fitting(
        self,
        core: _bindings.Store,
        tables: Sequence[tuple[str, int]],
        changed: Sequence[tuple[str, int]],
    ) -> Iterator[None]:
        """Fit the learned policy to the tables that the body changes.

        It stops before if it was not trained for the changed ones. If the body fails, it goes on.
        """
        stopped = self._stop_unless_fit(core, changed)
        try:
            yield
        except BaseException:
            if stopped:
                self.fit(core, tables)
            raise
        self.fit(core, changed)

    def _stop_unless_fit(self, core: _bindings.Store, tables: Sequence[tuple[str, int]]) -> bool:
        with self._lock:
            if self.planned is None or self.planned.fits(tables):
                return False
            core.use_policy(self.planned.fallback)
            return True

    def fit(self, core: _bindings.Store, tables: Sequence[tuple[str, int]]) -> None:
        """Start the learned policy if it was trained for these tables, otherwise its fallback."""
        with self._lock:
            if self._stop_unless_fit(core, tables) or self.planned is None:
                return
            try:
                self.planned.start(core, tables)
            except BaseException:
                self.name, self.planned = self.planned.fallback, None
                raise


def is_simple(policy: str | LearnedPolicy) -> bool:
    """Whether a policy is a name without a directory; TypeError for any other type."""
    if not isinstance(policy, (str, LearnedPolicy)):
        raise TypeError(f"policy: expected a name, NAME:DIR or a LearnedPolicy, got {policy!r}")
    return isinstance(policy, str) and ":" not in policy


def _check_simple(argument: str, name: str) -> None:
    if name not in (known := eviction_policy_names()):
        raise ValueError(f"{argument}: expected one of {', '.join(known)}, got {name!r}")


def load_planned(policy: str | LearnedPolicy) -> PlannedPolicy:
    """Return the policy in a directory.

    ``NAME:DIR`` is short for ``LearnedPolicy(DIR, name=NAME)``. Its setting "fallback" is a simple
    policy. Errors as for `load_policy`.
    """
    if isinstance(policy, str):
        name, _, directory = policy.partition(":")
        policy = LearnedPolicy(directory, name=name)
    path = os.fspath(policy.directory)
    name = policy_name(path) if policy.name is None else policy.name
    trained = load_policy(name, path)
    fallback = trained.directory.manifest.settings.get("fallback", FALLBACK)
    _check_simple(f"{path}: fallback", fallback)
    cost = PREFETCH_COST if policy.prefetch_cost is None else float(policy.prefetch_cost)
    return PlannedPolicy(
        f"{name}:{path}", trained, fallback, policy._memory_bytes, policy.auto_pause, cost
    )

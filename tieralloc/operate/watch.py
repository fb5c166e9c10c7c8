"""Logs changes of a store's state that happen in threads of the core.

    every second, in `TieredStore.stats` and after calls that change the policy:
      log how the state of the policy, the active policy of each fast tier and the result of the
      last write-back differ from before

A state that lasts a second is never missed; a shorter one is counted in `stats`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tieralloc._common.events import log_event
from tieralloc._common.fork_lock import ForkLock

if TYPE_CHECKING:
    from tieralloc._bindings.store_base import StoreBase
    from tieralloc.operate.versions import Versions
    from tieralloc.policy.planned import ActivePolicy

__all__ = ["StateWatch"]

_INTERVAL = 1.0

#: Event and level of a policy's new state, unless it ends a pause.
_EVENTS = {
    "running": ("policy_started", logging.INFO),
    "paused": ("policy_paused", logging.INFO),
    "failed": ("policy_failed", logging.WARNING),
}


class _State(NamedTuple):
    policy: str | None = None  # a learned one
    state: str = ""
    reason: str = ""
    fallback: str = ""
    active: tuple[str, ...] = ()  # of each fast tier
    write_back_error: str = ""


class StateWatch:
    """The states that were logged last, and the thread that polls."""

    def __init__(self, versions: Versions, policy: ActivePolicy) -> None:
        self._versions = versions
        self._policy = policy
        self._seen = _State()
        self._lock = ForkLock()
        self._is_closing = False
        self._is_closed = threading.Event()
        # A daemon: the store is closed after the interpreter has waited for other threads.
        self._thread = threading.Thread(target=self._run, name="tieralloc-watch", daemon=True)

    @property
    def _core(self) -> StoreBase:
        return self._versions.current.core

    @property
    def _store(self) -> str:
        return self._versions.path or str(self._versions.slow)

    def start(self) -> None:
        """Start the thread, on the processors of the store's; it ends once the store is closed."""
        self._thread.start()
        cpus = self._core.stats()["background_cpus"]
        if cpus and self._thread.native_id is not None:
            os.sched_setaffinity(self._thread.native_id, cpus)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Poll nothing in the context, which closes the store; a poll would wait for its end."""
        self._is_closing = True
        try:
            yield
        finally:
            self._is_closing = False
            if self._core.closed:
                self._is_closed.set()

    def poll(self) -> None:
        """Log the changes since the last poll; of a closed store there are none."""
        if self._is_closing:
            return
        with self._lock:
            try:
                seen = self._read()
            except ValueError:
                if self._core.closed or not self._core.belongs_here:
                    return
                raise
            before, self._seen = self._seen, seen
            self._log_policy(before, seen)
            self._log_write_backs(before, seen)

    def _run(self) -> None:
        while not self._is_closed.wait(_INTERVAL) and not self._core.closed:
            self.poll()

    def _read(self) -> _State:
        error = self._core.write_back_error
        with self._policy.unchanging() as is_unchanging:
            if not is_unchanging:
                return self._seen._replace(write_back_error=error)
            stats = self._policy.stats(self._core)
            if stats is None:
                return _State(write_back_error=error)
            active = tuple(tier.active for tier in stats.tiers)
            texts = (stats.state, stats.reason, stats.fallback)
            return _State(self._policy.name, *texts, active, error)

    def _log_policy(self, before: _State, now: _State) -> None:
        is_new = now.policy != before.policy
        names = {"store": self._store, "policy": now.policy}
        if is_new and before.state in _EVENTS:
            log_event(logging.INFO, "policy_replaced", store=self._store, policy=before.policy)
        if (is_new or now.state != before.state) and now.state in _EVENTS:
            event, level = _EVENTS[now.state]
            if not is_new and (before.state, now.state) == ("paused", "running"):
                event = "policy_resumed"
            active = None if now.state == "running" else now.fallback
            log_event(level, event, **names, reason=now.reason or None, fallback=active)
        elif not is_new and now.state == "waiting" and before.state in _EVENTS:
            event = "policy_stopped"
            log_event(logging.WARNING, event, **names, reason=now.reason, fallback=now.fallback)
        if is_new or len(now.active) != len(before.active):
            return
        for tier, (former, active) in enumerate(zip(before.active, now.active, strict=True)):
            if active != former:
                tiers = {"tier": tier, "active": active, "before": former}
                log_event(logging.INFO, "policy_switched", **names, **tiers)

    def _log_write_backs(self, before: _State, now: _State) -> None:
        if bool(now.write_back_error) == bool(before.write_back_error):
            return
        if now.write_back_error:
            reason = now.write_back_error
            log_event(logging.WARNING, "write_back_failing", store=self._store, reason=reason)
        else:
            log_event(logging.INFO, "write_back_recovered", store=self._store)

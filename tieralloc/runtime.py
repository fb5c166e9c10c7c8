"""The policy runtime: a learned policy at work beside serving.

A background thread takes what lookups accessed, has the policy's brain take note of it, and keeps
the store advised of which rows should leave the fast tier first. The store's simple policy is told
of everything all the while and decides wherever there is no advice: nothing is lost but the learned
policy's lead where it is slow, stalls or fails. Where it saves less than it costs it rests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from tieralloc._advising import (
    CANDIDATES,
    FEWEST_CANDIDATES,
    TURNOVER,
    Adviser,
    AheadBrain,
    Brain,
    make_guard,
)
from tieralloc._torch import torch
from tieralloc._worth import Usage, Worth, time_of_this_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tieralloc import _core
    from tieralloc._advising import Drained, FindAbsent

_LOG = logging.getLogger("tieralloc")

#: Words of each serving thread's ring, 2 MiB: some hundredths of a second of a busy thread.
RING = 1 << 18

#: Seconds from one step to the next, if there is time; fewer where advice would run short.
INTERVAL = 0.004

#: Seconds that a step may take before fewer residents are looked at. Advice that comes late is
#: worth more than advice that few were looked at for; but rings fill meanwhile.
SLOW = 0.02

#: Seconds after which a step that does not end counts as stalled.
DEADLINE = 5.0

#: Seconds from one look to the next whether a rest is over.
DOZE = 0.05

#: The share of a core that the runtime takes at most.
CPU_SHARE = 0.8

#: Below those who serve, yet not so far that who waits for the GIL while this has it waits long.
_NICE = 10


class History(Protocol):
    """What a scripted model is told of rows."""

    def observe(self, rows: NDArray[np.uint64]) -> None:
        """Take note of accesses, (n,), in order."""

    def features(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the features, (n, width), of rows, (n,)."""


class ScriptedBrain:
    """A `Brain` that asks a compiled model: of features, (n, width) float32, it makes scores, (n,).

    The model runs without the GIL.

    Parameters
    ----------
    history : History
        Where the features come from.
    model : torch module
        As `tieralloc._scripted.load_module` loads it.
    """

    def __init__(self, history: History, model: torch.nn.Module) -> None:
        self._history = history
        self._model = model

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        """Take note of accesses."""
        self._history.observe(rows)

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Score rows, in one call of the model."""
        with torch.inference_mode():
            scores: NDArray[np.float32] = self._model(
                torch.from_numpy(self._history.features(rows))
            ).numpy()
        return scores


class PolicyRuntime:
    """Runs a brain beside a store; `TieredStore.use_policy` makes and ends it.

    Parameters
    ----------
    core : tieralloc._core.Store
        The store. Its simple policy is `fallback`.
    brain : Brain
        Who knows which rows deserve to stay.
    policy : str
        What figures call it.
    fallback : str
        Who decides where it does not.
    guarded : bool
        Whether a guard compares it with simple policies, and puts one in charge that is ahead.
    rests : bool
        Whether it rests where the guard's figures say that it costs more than it saves.
    interval, deadline, cpu_share, ring
        As the constants of this module.
    cpus : sequence of int
        Processors that it runs on; none: any.
    """

    def __init__(
        self,
        core: _core.Store,
        brain: Brain,
        *,
        policy: str,
        fallback: str,
        guarded: bool = True,
        rests: bool = False,
        interval: float = INTERVAL,
        deadline: float = DEADLINE,
        cpu_share: float = CPU_SHARE,
        ring: int = RING,
        cpus: Sequence[int] = (),
    ) -> None:
        self._core = core
        self._policy = policy
        self._interval = interval
        self._cpus = tuple(cpus)
        self._deadline = deadline
        self._cpu_share = cpu_share
        capacity = sum(tier["capacity"] for tier in core.view()[1])
        ahead = isinstance(brain, AheadBrain)
        guard = make_guard(capacity, fallback, ahead=ahead) if guarded else None
        self._brain = brain
        self._adviser = Adviser(core, _stoppable(brain, self), fallback=fallback, guard=guard)
        self._worth = Worth() if rests and guarded else None
        self._rest = 0  # lookups that are left of it
        self._ring = ring
        self._dropped = 0  # accesses, before a rest
        self._state = "running"
        self._reason = ""
        self._fallbacks = 0
        self._busy = False
        self._step_ns = 0
        self._lag = _Lag()
        self._seen = -1  # lookups, as of the last step's begin
        self._drained = 0  # and as of when it took what was accessed
        self._stepped = 0.0  # when a step began
        self._ending = threading.Event()
        self._began = threading.Event()
        self._threads = [
            threading.Thread(target=body, name=f"tieralloc-policy-{what}", daemon=True)
            for what, body in (("runtime", self._run), ("watch", self._watch))
        ]
        self._listen()

    @property
    def ending(self) -> bool:
        """Whether it was stopped, though a last step may be under way."""
        return self._ending.is_set()

    def start(self) -> None:
        """Let it work, in a thread of low priority, until it is stopped or the store closed."""
        # Threads of torch's are set a thread, and for all threads to come: what those are to have,
        # this one says again.
        threads = torch.get_num_threads()
        for thread in self._threads:
            thread.start()
        self._began.wait()
        torch.set_num_threads(threads)

    def stop(self, timeout: float = 2.0) -> None:
        """End it, once its step has ended, or without waiting any longer than so many seconds."""
        self._ending.set()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(timeout)
        if self._state != "failed":
            self._state = "stopped"
        if not self._core.closed:
            with contextlib.suppress(ValueError):  # closed meanwhile
                self._let_go()

    def step(self) -> int:
        """Take what was accessed and advise anew; return how many accesses there were.

        What the brain raises goes through.
        """
        began = time.thread_time_ns()
        lookups = self._core.view()[0]
        if lookups == self._seen:  # idle: nothing leaves
            return 0
        self._seen = lookups
        accesses = self._adviser.step(self._drain)
        if accesses > 0:
            self._lag.add(accesses, self._drained, self._core.view()[0])
            self._step_ns += time.thread_time_ns() - began
        return accesses

    def _drain(self) -> Drained:
        drained = self._core.drain_accesses()
        self._drained = self._core.view()[0]
        return drained

    def dram_bytes(self) -> dict[str, int]:
        """Return what it takes of DRAM beside its rings and the store's advice, by use."""
        guard = self._adviser.guard
        return {
            "history": getattr(self._brain, "nbytes", 0),
            "guard": 0 if guard is None else guard.nbytes,
        }

    def stats(self, store: dict[str, Any]) -> dict[str, Any]:
        """Make the figures of `TieredStore.stats`, of which `store` has the store's own."""
        adviser, work = self._adviser, self._adviser.work
        dropped = self._dropped + store["accesses_dropped"]
        seen = work.observed + dropped
        in_charge = adviser.in_charge is None and self._state == "running"
        return {
            "policy": self._policy,
            "state": self._state,
            "reason": self._reason,
            "in_charge": self._policy if in_charge else adviser.fallback,
            "fallback": adviser.fallback,
            "fallbacks": self._fallbacks,
            "accesses_observed": work.observed,
            "accesses_dropped": dropped,
            "observed_share": work.observed / seen if seen else 1.0,
            "accesses_per_second": work.observed / self._step_ns * 1e9 if self._step_ns else 0.0,
            "policy_lag": self._lag.figures(),
            "steps": work.steps,
            "decisions": work.decisions,
            "model_seconds": work.model_ns * 1e-9,
            "prefetch_seconds": work.ahead_ns * 1e-9,
            "candidates": adviser.candidates,
            "advised": work.advised,
            "advised_evictions": store["advised_evictions"],
            "fallback_evictions": store["evictions"] - store["advised_evictions"],
            "guard": self._guard_stats(),
            "worth": self._worth and {**self._worth.figures(), "rest_lookups": self._rest},
        }

    def _guard_stats(self) -> dict[str, Any] | None:
        estimates = self._adviser.estimates
        if estimates is None:
            return None
        ratios = {
            self._policy if name is None else name: ratio
            for name, ratio in estimates["miss_ratios"].items()
        }
        return {**estimates, "miss_ratios": ratios}

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # where it is refused, all are equal
            nice = max(_NICE, os.getpriority(os.PRIO_PROCESS, 0))
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
            if self._cpus:
                os.sched_setaffinity(threading.get_native_id(), self._cpus)
        torch.set_num_threads(1)
        self._began.set()
        self._stepped = time.monotonic()
        with contextlib.suppress(ValueError):  # closed, as the first step will find
            self._begin_work()
        pause = 0.0
        while not self._ending.wait(pause):
            try:
                if self._worth is not None and not self._rest:
                    self._weigh(self._worth)
                pause = self._doze() if self._rest else self._work()
            except _StoppedError:
                return
            except Exception as error:
                if not self._core.closed:
                    self._fail(error)
                return

    def _work(self) -> float:
        """Do a step; return the seconds to wait after it."""
        last, self._stepped = self._stepped, time.monotonic()
        cpu_before = time.thread_time()
        self._busy = True
        try:
            self.step()
        finally:
            self._busy = False
        if self._state == "stalled":
            self._state = "running"
        spent = time.monotonic() - self._stepped
        self._pace(spent)
        interval = self._interval_after(self._stepped - last)
        # By the clock a step that a halt of the process, or others on its core, drew out would be
        # paid for with as long a rest.
        cpu = time.thread_time() - cpu_before
        return max(interval - spent, cpu * (1 / self._cpu_share - 1))

    def _weigh(self, worth: Worth) -> None:
        """Begin to rest where the policy was seen to cost more than it saves."""
        if not worth.is_due(self._sampled):
            return
        self._rest = worth.judge(self._usage(), self._adviser.avoided())
        if not self._rest:
            return
        self._adviser.rest()
        self._dropped += self._core.stats()["accesses_dropped"]
        self._core.record_accesses(0)
        self._seen = self._core.view()[0]
        self._state = "resting"
        found = worth.figures()
        self._reason = (
            f"it saved {found['saved_seconds']:.2g} s of waiting in {found['cpu_seconds']:.2g} s of"
            f" CPU time, of which a second is worth {found['cpu_price']:.2g}"
        )
        _LOG.info("policy %s rests: %s", self._policy, self._reason)

    def _begin_work(self) -> None:
        if self._worth is not None:
            self._worth.begin(self._usage())

    @property
    def _sampled(self) -> int:
        guard = self._adviser.guard
        return 0 if guard is None else guard.sampled

    def _usage(self) -> Usage:
        stats = self._core.stats()
        return Usage(
            stats["lookups"],
            self._sampled,
            stats["on_demand_seconds"],
            *time_of_this_thread(),
        )

    def _doze(self) -> float:
        """Count the lookups of a rest, and end it; return the seconds to the next look."""
        lookups, seen = self._core.view()[0], self._seen
        self._seen = lookups
        self._rest = max(0, self._rest - (lookups - seen if lookups >= seen else lookups))
        if self._rest:
            return DOZE
        self._listen()
        self._begin_work()
        self._state, self._reason = "running", ""
        self._stepped = time.monotonic()
        return 0.0

    def _listen(self) -> None:
        """Have accesses recorded from now on."""
        self._core.record_accesses(self._ring)
        self._seen = -1
        self._lag.begin(self._core.view()[0])

    def _pace(self, spent: float) -> None:
        """Look at fewer residents where steps take long: accesses are dropped after that only."""
        candidates = self._adviser.candidates
        if spent > SLOW:
            self._adviser.candidates = max(FEWEST_CANDIDATES, candidates * 3 // 4)
        elif spent < SLOW / 2:
            self._adviser.candidates = min(CANDIDATES, candidates + 1)

    def _interval_after(self, former: float) -> float:
        """Return the seconds to the next step, going by what left in those to the last one."""
        turnover = self._adviser.turnover
        if turnover == 0:
            return self._interval
        return min(self._interval, former * TURNOVER / turnover)

    def _watch(self) -> None:
        """Tell when a step does not end.

        Counts looks rather than time: a process that was halted has not stalled.
        """
        looks, last = 0, -1
        while not self._ending.wait(self._deadline / 4):
            steps = self._adviser.work.steps
            looks = looks + 1 if self._busy and steps == last else 0
            last = steps
            if looks == 4:
                with contextlib.suppress(ValueError):  # closed
                    self._stall()

    def _stall(self) -> None:
        self._core.clear_advice()
        self._take_over(f"no progress for {self._deadline:g} s")
        self._state = "stalled"

    def _fail(self, error: Exception) -> None:
        self._ending.set()
        with contextlib.suppress(ValueError):  # closed
            self._let_go()
        # TorchScript's say where, line after line, and in the last one what.
        last_line = str(error).strip().rpartition("\n")[2]
        self._take_over(f"{type(error).__name__}: {last_line}")
        self._state = "failed"

    def _take_over(self, reason: str) -> None:
        if reason != self._reason:
            _LOG.warning(
                "policy %s: %s; %s decides instead", self._policy, reason, self._adviser.fallback
            )
        self._reason = reason
        self._fallbacks += 1

    def _let_go(self) -> None:
        self._core.clear_advice()
        self._core.record_accesses(0)


class _StoppedError(Exception):
    """A step goes no further: the runtime was stopped while the brain was at work."""


class _Stoppable:
    """A brain to which nobody listens any more once its runtime is stopped."""

    def __init__(self, brain: Brain, runtime: PolicyRuntime) -> None:
        self._brain = brain
        self._runtime = runtime

    def observe(self, rows: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        self._brain.observe(rows, lengths)
        self._check()

    def score(self, rows: NDArray[np.uint64]) -> NDArray[np.floating]:
        scores = self._brain.score(rows)
        self._check()
        return scores

    def _check(self) -> None:
        if self._runtime.ending:
            raise _StoppedError


class _StoppableAhead(_Stoppable):
    def __init__(self, brain: AheadBrain, runtime: PolicyRuntime) -> None:
        super().__init__(brain, runtime)
        self._ahead = brain

    @property
    def looks_ahead(self) -> bool:
        return self._ahead.looks_ahead

    @looks_ahead.setter
    def looks_ahead(self, value: bool) -> None:
        self._ahead.looks_ahead = value

    def prefetches(self, find_absent: FindAbsent) -> NDArray[np.uint64]:
        rows = self._ahead.prefetches(find_absent)
        self._check()
        return rows


def _stoppable(brain: Brain, runtime: PolicyRuntime) -> Brain:
    if isinstance(brain, AheadBrain):
        return _StoppableAhead(brain, runtime)
    return _Stoppable(brain, runtime)


class _Lag:
    """Accesses from an access to when its decisions have taken effect."""

    def __init__(self) -> None:
        self._drained = 0
        self._accesses = 0
        self._sum = 0.0
        self._max = 0

    def begin(self, lookups: int) -> None:
        self._drained = lookups

    def add(self, accesses: int, drained: int, now: int) -> None:
        """Note a step on accesses of before `drained` lookups, which ended after `now`."""
        former = self._drained if self._drained <= drained else 0  # counts were reset
        if now >= drained:
            self._accesses += accesses
            self._sum += accesses * (now - (former + drained) / 2)
            self._max = max(self._max, now - former)
        self._drained = drained

    def figures(self) -> dict[str, float]:
        mean = self._sum / self._accesses if self._accesses else 0.0
        return {"mean": mean, "max": self._max}

"""The ranks of a group: their collectives end with an error that names a dead or stalled rank.

A collective of gloo that waits longer than the group's timeout, or loses a connection, raises an
error without the rank that caused it. A roll call in the store of torch.distributed follows: each
rank whose collective failed answers, and waits up to the timeout for the others.

    a collective fails: set failed/RANK
    until all ranks have answered, or the timeout: wait
    raise RankError of the ranks that have not answered

So a dead or stalled rank is named within twice the timeout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

_POLL = 0.02
_number = count()  # of groups, which all ranks create in the same order


class RankError(ConnectionError):
    """A rank died, stalled or refused to start.

    Attributes
    ----------
    ranks : tuple of int
        The ranks that did not answer.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks


class Ranks:
    """A process group whose failed collectives name ranks.

    Parameters
    ----------
    group : ProcessGroup, optional
        By default a new group of all ranks on gloo.
    timeout : float
        Seconds of a collective of a new group, and of the roll call.
    """

    def __init__(self, group: Any, timeout: float) -> None:
        if not dist.is_initialized():
            raise ValueError("group: expected init_process_group before, got no process group")
        if not timeout > 0:
            raise ValueError(f"timeout: expected above 0 s, got {timeout}")
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._timeout = timeout
        store = distributed_c10d._get_default_store()
        self._store = distributed_c10d.PrefixStore(f"tieralloc/{next(_number)}", store)
        self._failure: RankError | None = None
        if group is None:
            with self.collective():
                group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self.group = group

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Raise RankError if a collective in the context fails, or one failed before."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except RuntimeError as error:
            self._failure = self._named(error)
            raise self._failure from error

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each rank."""
        values = [None] * self.size
        with self.collective():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def _named(self, error: RuntimeError) -> RankError:
        reason = str(error).strip().partition("\n")[0]
        try:
            silent = self._call_roll()
        except RuntimeError:  # the rank that hosts the store has gone
            return RankError(
                f"rank 0: the rendezvous store of the group has gone with it; expected {self.size} "
                f"ranks; restart the group ({reason})",
                (0,),
            )
        if not silent:
            return RankError(
                f"rank {self.rank}: all ranks answer, but an exchange of theirs failed; restart "
                f"the group ({reason})"
            )
        names = ", ".join(map(str, silent))
        return RankError(
            f"rank {names}: died or stalled; expected an answer within {self._timeout:g} s; "
            f"restart the group, as torchrun --max-restarts does ({reason})",
            tuple(silent),
        )

    def _call_roll(self) -> list[int]:
        """Return the ranks that do not answer within the timeout."""
        self._store.set(f"failed/{self.rank}", "")
        silent = [rank for rank in range(self.size) if rank != self.rank]
        end = time.monotonic() + self._timeout
        while silent and time.monotonic() < end:
            time.sleep(_POLL)
            silent = [rank for rank in silent if not self._store.check([f"failed/{rank}"])]
        return silent

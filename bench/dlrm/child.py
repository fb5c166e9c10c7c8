"""A contender in a process of its own, halted while others are measured."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.dlrm.contenders import Contender
from bench.dlrm.settings import Settings

_PR_SET_PDEATHSIG = 1


class ChildFailedError(RuntimeError):
    """A contender's process failed or ended."""


@dataclass(frozen=True)
class Job:
    """What a process serves, and where.

    Parameters
    ----------
    trace : path
        Of the trace.
    settings : Settings
    contender : Contender
    directory : path
        Where it makes the file of its slow tier.
    fast_rows : int
        Capacity of its fast tier.
    policy : path or None
        Directory of a learned policy.
    cores : sequence of int
        Where all of its threads run.
    serving_cores : sequence of int
        Where the one that serves does.
    policy_cores : sequence of int
        Where those of the policy do.
    """

    trace: Path
    settings: Settings
    contender: Contender
    directory: Path
    fast_rows: int
    policy: Path | None
    cores: Sequence[int]
    serving_cores: Sequence[int]
    policy_cores: Sequence[int]


class Child:
    """A process with a server. It runs only while a method is under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        # Forked from a process that has the libraries loaded and no threads: each is there at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bench.dlrm.server"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_obey, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()
        self.scores = self._receive()  # warm

    def serve(self, numbers: range, rate: float | None) -> Any:
        """As `Server.serve`."""
        return self._ask("serve", numbers, rate)

    def about(self) -> dict[str, Any]:
        """As `Server.about`."""
        about: dict[str, Any] = self._ask("about")
        return about

    def end(self) -> None:
        """End the process, if it has not ended already."""
        with suppress(ChildFailedError):
            self._ask("close")
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        assert self._process.pid is not None
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGCONT)
        with suppress(BrokenPipeError):  # the answer, or its absence, tells
            self._pipe.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        label = self.job.contender.label
        try:
            error, result = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ChildFailedError(
                f"{label} ended with exit code {self._process.exitcode}"
            ) from None
        if error:
            raise ChildFailedError(f"{label} failed: {error}")
        # Its threads would take time from whoever is measured next.
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGSTOP)
        return result


def _obey(pipe: Connection, job: Job) -> None:
    """Make a server, warm it, and call its methods as they are asked for."""
    # A halted process does not see its parent go.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, job.cores)  # before there are threads, which inherit it
    try:
        import torch

        from bench.dlrm.model import refusal
        from bench.dlrm.requests import Requests
        from bench.dlrm.server import Server
        from tieralloc import trace

        torch.set_num_threads(1)
        refusal()  # which also keeps torch quiet
        requests = Requests(trace.read(job.trace), job.settings)
        path = job.directory / f"{os.getpid()}.tier"
        server = Server(requests, job.contender, path, job.fast_rows, job.policy)
        os.sched_setaffinity(0, job.serving_cores)  # this thread alone
        server.pin_policy(job.policy_cores)
        pipe.send((None, server.warm()))
        while True:
            method, arguments = pipe.recv()
            result = getattr(server, method)(*arguments)
            if method == "close":
                path.unlink(missing_ok=True)
            pipe.send((None, result))
            if method == "close":
                return
    except EOFError:
        return  # the parent is gone
    except Exception as error:
        with suppress(BrokenPipeError):
            pipe.send((f"{type(error).__name__}: {error}", None))

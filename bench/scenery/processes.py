"""Child processes: an object that answers calls, and jobs side by side.

A crash of a child raises `ChildFailedError` and affects no other process. A child ends with its
parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil
from tqdm import tqdm

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 10


class ChildFailedError(RuntimeError):
    """A child process failed or ended."""


class Child:
    """A process that calls ``work(*arguments)``, and then methods of the object returned.

    With `serves` false it only returns a result, to `receive`. With `paused` it is stopped between
    calls, so that its threads take no time. With `preload` it is forked from a process that has
    imported these modules.
    """

    def __init__(
        self,
        name: str,
        work: Callable[..., Any],
        arguments: Sequence[Any] = (),
        *,
        serves: bool = True,
        paused: bool = False,
        preload: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._serves = serves
        self._is_done = False
        context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
        if preload:
            context.set_forkserver_preload(list(preload))
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(theirs, work, arguments, serves), daemon=True
        )
        self._process.start()
        theirs.close()
        self._paused_process = psutil.Process(self._process.pid) if paused else None
        if serves:
            try:
                self.receive()
            except BaseException:
                self.close()
                raise

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the object in the child; return its result."""
        self._resume()
        with suppress(BrokenPipeError):  # receive() raises with the reason
            self.pipe.send((method, arguments, options))
        return self.receive()

    def receive(self) -> Any:
        """Wait for the next result."""
        try:
            error, result = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ChildFailedError(
                f"{self.name} ended with exit code {self._process.exitcode}"
            ) from None
        self._is_done = not self._serves
        if error:
            raise ChildFailedError(f"{self.name} failed: {error}")
        if self._paused_process:
            with suppress(psutil.NoSuchProcess):
                self._paused_process.suspend()
        return result

    def close(self) -> None:
        """Call the object's `close`, and end the process."""
        if self._serves and self._process.is_alive():
            with suppress(ChildFailedError):
                self.call("close")
        self._resume()
        self.pipe.close()
        if not self._serves and not self._is_done:
            self._process.terminate()
        self._process.join(timeout=_END_SECONDS)
        self._process.kill()
        self._process.join()

    def _resume(self) -> None:
        if self._paused_process:
            with suppress(psutil.NoSuchProcess):
                self._paused_process.resume()


def _run(
    pipe: Connection, work: Callable[..., Any], arguments: Sequence[Any], serves: bool
) -> None:
    # A stopped process does not notice that its pipe was closed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, BrokenPipeError):  # the parent has ended, or closed the pipe
        try:
            result = work(*arguments)
            pipe.send((None, None if serves else result))
            while serves:
                method, given, options = pipe.recv()
                pipe.send((None, getattr(result, method)(*given, **options)))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            pipe.send((f"{type(error).__name__}: {error}", None))


@dataclass(frozen=True)
class Job:
    """A job: ``work(*arguments)`` in a child process."""

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Any]]:
    """Yield jobs and their results as they end; a `ChildFailedError` for a failed job.

    At most `processes` run at a time. All end when the iterator is closed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # models are small; jobs run in parallel instead
    waiting = list(jobs)
    running: dict[Any, tuple[Job, Child]] = {}
    with tqdm(total=len(jobs), desc="jobs", leave=False, disable=None) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    job = waiting.pop(0)
                    child = Child(job.name, job.work, job.arguments, serves=False)
                    running[child.pipe] = job, child
                bar.set_postfix_str("; ".join(job.name for job, _ in running.values()))
                for pipe in wait(list(running)):
                    job, child = running.pop(pipe)
                    try:
                        result = child.receive()
                    except ChildFailedError as error:
                        result = error
                    child.close()
                    bar.update()
                    yield job, result
        finally:
            for _, child in running.values():
                child.close()

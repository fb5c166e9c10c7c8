"""Work in processes of its own: a crash is that piece's alone, and so is the CPU time it takes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

#: Called with how it goes, in words.
Tell = Callable[[str], None]

_TELLING_INTERVAL = 0.5  # seconds


@dataclass(frozen=True)
class Job:
    """A piece of work: `work` is called with `arguments` and a `Tell`, in a new interpreter."""

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class State:
    """How a job goes."""

    words: str


@dataclass(frozen=True)
class Done:
    """What a job returned."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """Why a job returned nothing."""

    reason: str


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, State | Done | Failed]]:
    """Run jobs, the first ones first, and tell what becomes of them as it happens."""
    waiting = list(jobs)
    running: dict[Any, _Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                child = _Child(waiting.pop(0))
                running[child.pipe] = child
            for pipe in wait(list(running)):
                child = running[pipe]
                event = child.receive()
                if not isinstance(event, State):
                    del running[pipe]
                    child.end()
                yield child.job, event
    finally:
        for child in running.values():
            child.end()


class _Child:
    """A process with a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_do, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    def receive(self) -> State | Done | Failed:
        try:
            event: State | Done | Failed = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Failed(f"its process ended with exit code {self._process.exitcode}")
        return event

    def end(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _do(pipe: Connection, job: Job) -> None:
    # Before anything is loaded that reads it. The models are small: what is parallel is the jobs.
    os.environ["OMP_NUM_THREADS"] = "1"
    told = 0.0

    def tell(words: str) -> None:
        nonlocal told
        if time.monotonic() - told > _TELLING_INTERVAL:
            told = time.monotonic()
            pipe.send(State(words))

    event: Done | Failed
    try:
        event = Done(job.work(*job.arguments, tell))
    except Exception as error:
        event = Failed(f"{type(error).__name__}: {error}")
    with suppress(BrokenPipeError):  # where the parent is gone, nobody wants to know
        pipe.send(event)

"""A campaign: numbered random cases until time is up, counts, failures, and child processes.

A case is a function of (seed, case number), so that `--seed S --case N` repeats it. The moment of
a signal and the schedule of threads are not repeated: such a case may need several runs.
"""

import contextlib
import ctypes
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)
PROGRESS_SECONDS = 5
MAX_PRINTED = 3  # failures of a kind
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000
_MNT_DETACH = 2
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


class MissingError(Exception):
    """The machine lacks something that a campaign needs; the text names it."""


@dataclass
class Campaign:
    """The cases, counts and failures of one campaign."""

    name: str
    seed: int
    seconds: float
    only_case: int | None = None
    keep: Path | None = None  # folder for files of failures
    counts: Counter = field(default_factory=Counter)
    failures: Counter = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self._reported = self.started

    @property
    def remaining(self):
        return self.seconds - (time.monotonic() - self.started)

    def cases(self):
        """Yield case numbers until time is up: one at least."""
        case = 0 if self.only_case is None else self.only_case
        while True:
            self.counts["cases"] += 1
            yield case
            self.report()
            if self.only_case is not None or self.remaining <= 0:
                return
            case += 1

    def rng(self, case):
        return np.random.default_rng([self.seed, case])

    def report(self):
        """Print a line of progress every few seconds."""
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            print(f"{self.name}: {now - self.started:.0f} s, {self.figures()}", flush=True)

    def figures(self):
        counted = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        failed = ", ".join(f"{count:,} {kind}" for kind, count in self.failures.most_common())
        return f"{counted}; failures: {failed or 'none'}"

    def keep_files(self, folder, pattern):
        """Copy files before they are checked; `fail` keeps the copies. Without `keep`, nothing."""
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.keep / "last", ignore_errors=True)
            (self.keep / "last").mkdir()
            for file in folder.glob(pattern):
                subprocess.run(["cp", "--sparse=always", file, self.keep / "last"], check=True)

    def fail(self, kind, case, text):
        """Count a failure; print the first of each kind with their commands."""
        self.failures[kind] += 1
        if self.failures[kind] > MAX_PRINTED:
            return
        kept = ""
        if self.keep is not None and (self.keep / "last").exists():
            kept = self.keep / f"{self.name}-{case}-{self.failures.total()}"
            shutil.rmtree(kept, ignore_errors=True)
            (self.keep / "last").rename(kept)
        print(
            f"{self.name}: FAILED: {kind}: {text}\n"
            f"    python -m tests.torture {self.name} --seed {self.seed} --case {case}  {kept}",
            flush=True,
        )


@dataclass(frozen=True)
class Outcome:
    """The end of a child process: "returned", "raised", "died" by a signal, or "hung"."""

    kind: str
    value: object

    def __str__(self):
        return f"{self.kind} {self.value}" if self.kind in ("died", "hung") else str(self.value)


def start_child(function):
    """Fork a child that calls the function; return its process and the pipe of its outcome.

    The child dies with its parent. Exceptions come back as the text of their traceback.
    """
    sys.stdout.flush()
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    try:
        LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(reader)
        try:
            outcome = Outcome("returned", function())
        except BaseException:
            outcome = Outcome("raised", traceback.format_exc())
        with open(writer, "wb") as pipe:
            pickle.dump(outcome, pipe)
    finally:
        os._exit(0)


def end_child(child, timeout):
    """Wait for the end of a child; kill it after `timeout` seconds."""
    process, reader = child
    deadline = time.monotonic() + timeout
    received, hung = bytearray(), False
    while True:
        ready, _, _ = select.select([reader], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            hung = True
            os.kill(process, signal.SIGKILL)
            break
        if not (part := os.read(reader, 1 << 20)):
            break
        received += part
    os.close(reader)
    _, status = os.waitpid(process, 0)
    if hung:
        return Outcome("hung", f"for {timeout} s")
    if os.WIFSIGNALED(status):
        return Outcome("died", signal.Signals(os.WTERMSIG(status)).name)
    return pickle.loads(received)


def in_child(function, timeout=60):
    """Call a function in a forked child; return its outcome."""
    return end_child(start_child(function), timeout)


def last_line(outcome):
    """Return one line that describes an outcome other than "returned"."""
    return str(outcome).strip().splitlines()[-1]


def new_folder(rng):
    """Return a new temporary folder, in memory or on the disk at random."""
    memory = "/dev/shm" if rng.random() < 0.5 and os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="torture-", dir=memory)


def check(result, what):
    """Raise OSError if a call of libc returned below 0."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def mount(source, target, kind, options="", flags=0):
    """Mount; return the target."""
    arguments = [os.fsencode(str(text)) for text in (source, target, kind)]
    done = LIBC.mount(*arguments, ctypes.c_ulong(flags), options.encode())
    check(done, f"mount {kind} on {target}")
    return target


def unmount(target):
    """Unmount now, or when the last open file is closed if there are open files."""
    path = os.fsencode(str(target))
    if LIBC.umount2(path, 0) != 0:
        check(LIBC.umount2(path, _MNT_DETACH), f"unmount {target}")


def enter_private_mounts():
    """Give this process mounts of its own, which end with it; raise MissingError if it may not."""
    try:
        check(LIBC.unshare(_CLONE_NEWNS), "unshare")
        mount("", "/", "", flags=_MS_REC | _MS_PRIVATE)
    except OSError as error:
        raise MissingError(f"no mount namespace of its own: {error}") from None


@contextlib.contextmanager
def mounted(source, target, kind, options=""):
    mount(source, target, kind, options)
    try:
        yield
    finally:
        unmount(target)

"""A memory cgroup of our own: the one thing that bounds the page cache a process may use."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class CgroupRefusedError(Exception):
    """This process may not make a memory cgroup; the text says why."""


@dataclass(frozen=True)
class _Names:
    """The files of a version of the interface."""

    limit: str
    swap_limit: str
    usage: str
    peak: str


_NAMES = {
    1: _Names(
        limit="memory.limit_in_bytes",
        swap_limit="memory.memsw.limit_in_bytes",
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
    ),
    2: _Names(
        limit="memory.max",
        swap_limit="memory.swap.max",
        usage="memory.current",
        peak="memory.peak",
    ),
}


class Hierarchy(NamedTuple):
    """Where memory cgroups are: the version, the mount, and the one that this process is in."""

    version: int
    mount: Path
    own: Path


class MemoryCgroup:
    """A memory cgroup with a limit, below or beside the one that this process is in.

    Below it where that is allowed, so that limits set on this process go on applying; with version
    2 beside it, as a cgroup with processes can have no children there. What a process took before
    it joined stays on the account of the cgroup that it was in.

    Raises
    ------
    CgroupRefusedError
        Where this process may not make one.
    """

    def __init__(self, limit: int) -> None:
        hierarchy = find_hierarchy(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        )
        self._names = _NAMES[hierarchy.version]
        self._directory = self._make(hierarchy)
        self.limit = limit
        try:
            self._write(self._names.limit, limit)
            # Rows swapped out would be neither in DRAM nor where they belong.
            swap_limit = limit if hierarchy.version == 1 else 0
            if (self._directory / self._names.swap_limit).exists():
                self._write(self._names.swap_limit, swap_limit)
        except OSError as error:
            self.close()
            raise CgroupRefusedError(f"a limit cannot be set on a memory cgroup: {error}") from None

    def _make(self, hierarchy: Hierarchy) -> Path:
        refusals = []
        for parent in _parents(hierarchy):
            directory = parent / f"tieralloc-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                directory.mkdir()
            except OSError as error:
                refusals.append(error.strerror or str(error))
                continue
            if (directory / self._names.limit).exists():
                return directory
            directory.rmdir()
            refusals.append("the memory controller is not enabled there")
        raise CgroupRefusedError(
            f"no memory cgroup (version {hierarchy.version}) can be made: "
            + "; ".join(dict.fromkeys(refusals))
        )

    def add(self, pid: int) -> None:
        """Move a process in."""
        try:
            self._write("cgroup.procs", pid)
        except OSError as error:
            raise CgroupRefusedError(f"no process can join a memory cgroup: {error}") from None

    @property
    def usage(self) -> int:
        """Bytes on its account now."""
        return int((self._directory / self._names.usage).read_text())

    @property
    def peak(self) -> int:
        """The most bytes that were on its account; those of now where the kernel does not tell."""
        path = self._directory / self._names.peak
        return int(path.read_text()) if path.exists() else self.usage

    def close(self) -> None:
        """Remove it; its processes must have ended."""
        for _ in range(100):
            try:
                self._directory.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)  # the kernel is still burying the last process
        self._directory.rmdir()

    def _write(self, name: str, value: int) -> None:
        (self._directory / name).write_text(str(value))


def refusal() -> str | None:
    """Say why memory cgroups cannot be made here; None where they can."""
    try:
        MemoryCgroup(1 << 30).close()
    except CgroupRefusedError as error:
        return str(error)
    return None


def find_hierarchy(mountinfo: str, own_cgroups: str) -> Hierarchy:
    """Find the memory cgroups in the text of /proc/self/mountinfo and /proc/self/cgroup.

    Raises
    ------
    CgroupRefusedError
        Where none are mounted.
    """
    paths = {}
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    found: dict[int, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
        root, mount = Path(fields[3]), Path(fields[4])
        if kind == "cgroup" and "memory" in options.split(","):
            found[1] = Hierarchy(1, mount, _below(mount, root, paths.get("memory", "/")))
        elif kind == "cgroup2":
            found[2] = Hierarchy(2, mount, _below(mount, root, paths.get("", "/")))
    if not found:
        raise CgroupRefusedError("no cgroup file system is mounted")
    # Where memory is an account of version 1, version 2 has no say in it.
    return found[min(found)]


def _below(mount: Path, root: Path, path: str) -> Path:
    """Where the cgroup `path` is if `root` is what is mounted at `mount`."""
    try:
        return mount / Path(path).relative_to(root)
    except ValueError:
        return mount  # a container sees less than the kernel tells


def _parents(hierarchy: Hierarchy) -> list[Path]:
    """Directories to try. None is further out: limits set there go on applying to a child."""
    if hierarchy.version == 1 or hierarchy.own == hierarchy.mount:
        return [hierarchy.own]
    return [hierarchy.own, hierarchy.own.parent]

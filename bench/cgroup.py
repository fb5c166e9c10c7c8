"""Cgroups of our own: what bounds a process's memory, its page cache included, or its reads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class CgroupRefusedError(Exception):
    """This process may not make a cgroup; the text says why."""


@dataclass(frozen=True)
class _Names:
    """The memory controller's files in a version of the interface."""

    limit: str
    swap_limit: str
    usage: str
    peak: str


_MEMORY = {
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
_READS = {1: "blkio.throttle.read_iops_device", 2: "io.max"}


class Hierarchy(NamedTuple):
    """Where a controller's cgroups are: the version, the mount, and the one of this process."""

    version: int
    mount: Path
    own: Path


class Cgroup:
    """A cgroup of our own, below or beside the one that this process is in.

    Below it where that is allowed, so that limits set on this process go on applying; with version
    2 beside it, as a cgroup with processes can have no children there.

    Parameters
    ----------
    controller : str
        As version 1 calls it.
    needed : mapping of int to str
        A file that it must have, by version.

    Raises
    ------
    CgroupRefusedError
        Where this process may not make one.
    """

    def __init__(self, controller: str, needed: Mapping[int, str]) -> None:
        self.hierarchy = find_hierarchy(
            Path("/proc/self/mountinfo").read_text(),
            Path("/proc/self/cgroup").read_text(),
            controller,
        )
        self.directory = self._make(controller, needed[self.hierarchy.version])

    def _make(self, controller: str, needed: str) -> Path:
        refusals = []
        for parent in _parents(self.hierarchy):
            directory = parent / f"tieralloc-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                directory.mkdir()
            except OSError as error:
                refusals.append(error.strerror or str(error))
                continue
            if (directory / needed).exists():
                return directory
            directory.rmdir()
            refusals.append(f"the {controller} controller is not enabled there")
        raise CgroupRefusedError(
            f"no {controller} cgroup (version {self.hierarchy.version}) can be made: "
            + "; ".join(dict.fromkeys(refusals))
        )

    def add(self, pid: int) -> None:
        """Move a process in."""
        try:
            self.write("cgroup.procs", pid)
        except OSError as error:
            raise CgroupRefusedError(f"no process can join a cgroup: {error}") from None

    def empty(self) -> None:
        """Move all processes to where this one was when the cgroup was made."""
        for pid in (self.directory / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):  # it ended meanwhile
                (self.hierarchy.own / "cgroup.procs").write_text(pid)

    def close(self) -> None:
        """Remove it; its processes must have ended, or have been moved."""
        for _ in range(100):
            try:
                self.directory.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)  # the kernel is still burying the last process
        self.directory.rmdir()

    def write(self, name: str, value: int | str) -> None:
        """Write into one of its files."""
        (self.directory / name).write_text(str(value))


class MemoryCgroup(Cgroup):
    """A memory cgroup with a limit: the one thing that bounds the page cache a process may use.

    What a process took before it joined stays on the account of the cgroup that it was in.

    Raises
    ------
    CgroupRefusedError
        Where this process may not make one.
    """

    def __init__(self, limit: int) -> None:
        super().__init__("memory", {version: names.limit for version, names in _MEMORY.items()})
        self._names = _MEMORY[self.hierarchy.version]
        self.limit = limit
        try:
            self.write(self._names.limit, limit)
            # Rows swapped out would be neither in DRAM nor where they belong.
            swap_limit = limit if self.hierarchy.version == 1 else 0
            if (self.directory / self._names.swap_limit).exists():
                self.write(self._names.swap_limit, swap_limit)
        except OSError as error:
            self.close()
            raise CgroupRefusedError(f"a limit cannot be set on a memory cgroup: {error}") from None

    @property
    def usage(self) -> int:
        """Bytes on its account now."""
        return int((self.directory / self._names.usage).read_text())

    @property
    def peak(self) -> int:
        """The most bytes that were on its account; those of now where the kernel does not tell."""
        path = self.directory / self._names.peak
        return int(path.read_text()) if path.exists() else self.usage


class ReadRateCgroup(Cgroup):
    """A cgroup whose processes have a disk serve so many reads a second at most: a slower disk.

    Parameters
    ----------
    path : path
        A file or directory on the disk.
    reads : int
        A second.

    Raises
    ------
    CgroupRefusedError
        Where this process may not make one, or the path is on no disk of its own.
    """

    def __init__(self, path: Path, reads: int) -> None:
        disk = _disk_of(path)
        super().__init__("blkio", _READS)
        limit = reads if self.hierarchy.version == 1 else f"riops={reads}"
        try:
            self.write(_READS[self.hierarchy.version], f"{disk} {limit}")
        except OSError as error:
            self.close()
            raise CgroupRefusedError(f"reads of disk {disk} cannot be limited: {error}") from None


@contextmanager
def reading_slowly(path: Path, reads: int) -> Iterator[None]:
    """Have this process, and those that it starts, in a `ReadRateCgroup`."""
    group = ReadRateCgroup(path, reads)
    try:
        group.add(os.getpid())
        try:
            yield
        finally:
            group.empty()  # helpers of multiprocessing's outlive those whom they help
    finally:
        group.close()


def _disk_of(path: Path) -> str:
    """Return the numbers of the whole disk, of which what holds a path may be a part."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        raise CgroupRefusedError(f"{path} is on no disk whose reads can be limited")
    whole = device.resolve()
    if (whole / "partition").exists():
        whole = whole.parent
    return (whole / "dev").read_text().strip()


def refusal() -> str | None:
    """Say why memory cgroups cannot be made here; None where they can."""
    try:
        MemoryCgroup(1 << 30).close()
    except CgroupRefusedError as error:
        return str(error)
    return None


def find_hierarchy(mountinfo: str, own_cgroups: str, controller: str = "memory") -> Hierarchy:
    """Find a controller's cgroups in the text of /proc/self/mountinfo and /proc/self/cgroup.

    Raises
    ------
    CgroupRefusedError
        Where none are mounted.
    """
    paths = {}
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        for one in controllers.split(","):
            paths[one] = path
    found: dict[int, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
        root, mount = Path(fields[3]), Path(fields[4])
        if kind == "cgroup" and controller in options.split(","):
            found[1] = Hierarchy(1, mount, _below(mount, root, paths.get(controller, "/")))
        elif kind == "cgroup2":
            found[2] = Hierarchy(2, mount, _below(mount, root, paths.get("", "/")))
    if not found:
        raise CgroupRefusedError("no cgroup file system is mounted")
    # Where it is an account of version 1, version 2 has no say in it.
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

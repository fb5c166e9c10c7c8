"""Cgroups: a limit of the memory of a process, page cache included, or of its reads.

Versions 1 and 2 of the kernel's interface; a hierarchy of version 1 that has the controller is used
where there is one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

#: By version: the file of the limit, of the limit with swap, and of the peak.
_MEMORY = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
    2: ("memory.max", "memory.swap.max", "memory.peak"),
}
_READS = {1: "blkio.throttle.read_iops_device", 2: "io.max"}


class CgroupRefusedError(Exception):
    """This process may not make a cgroup; the text says why."""


class Hierarchy(NamedTuple):
    """The cgroups of a controller: the version, the mount, and the cgroup of this process."""

    version: int
    mount: Path
    own: Path


class Cgroup:
    """A new cgroup of a controller (named as in version 1).

    It is made below the cgroup of this process, so that limits set there continue to apply; where
    that is refused, beside it, because in version 2 a cgroup with processes has no children.

    Raises
    ------
    CgroupRefusedError
    """

    def __init__(self, controller: str, files: dict[int, str]) -> None:
        self.hierarchy = find_hierarchy(
            Path("/proc/self/mountinfo").read_text(),
            Path("/proc/self/cgroup").read_text(),
            controller,
        )
        version, mount, own = self.hierarchy
        self.version = version
        refusals = []
        for parent in dict.fromkeys([own, own if version == 1 or own == mount else own.parent]):
            self.directory = parent / f"tieralloc-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                self.directory.mkdir()
            except OSError as error:
                refusals.append(error.strerror or str(error))
                continue
            if (self.directory / files[version]).exists():
                return
            self.directory.rmdir()
            refusals.append(f"the {controller} controller is not enabled there")
        reasons = "; ".join(dict.fromkeys(refusals))
        raise CgroupRefusedError(f"no {controller} cgroup (version {version}): {reasons}")

    def set(self, name: str, value: int | str) -> None:
        """Write a file of the cgroup; remove the cgroup where that is refused."""
        try:
            (self.directory / name).write_text(str(value))
        except OSError as error:
            self.close()
            raise CgroupRefusedError(f"{name} of a cgroup cannot be set: {error}") from None

    def add(self, pid: int) -> None:
        """Move a process in."""
        try:
            (self.directory / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise CgroupRefusedError(f"no process can join a cgroup: {error}") from None

    def close(self) -> None:
        """Move its processes back to the cgroup of this process, and remove it."""
        for _ in range(100):
            with suppress(OSError):
                for pid in (self.directory / "cgroup.procs").read_text().split():
                    with suppress(ProcessLookupError):  # it has just ended
                        (self.hierarchy.own / "cgroup.procs").write_text(pid)
                self.directory.rmdir()
            if not self.directory.exists():
                return
            time.sleep(0.02)  # the kernel has not removed the last process yet
        self.directory.rmdir()


class MemoryCgroup(Cgroup):
    """A cgroup with a memory limit, the only bound of the page cache that a process uses.

    Memory taken before a process joins is charged to its former cgroup.
    """

    def __init__(self, limit: int) -> None:
        super().__init__("memory", {version: files[0] for version, files in _MEMORY.items()})
        limit_file, swap_file, self._peak_file = _MEMORY[self.version]
        self.limit = limit
        self.set(limit_file, limit)
        if (self.directory / swap_file).exists():  # swapped rows would be in neither tier
            self.set(swap_file, limit if self.version == 1 else 0)

    @property
    def peak(self) -> int:
        """Max bytes charged so far."""
        return int((self.directory / self._peak_file).read_text())


@contextmanager
def limited_reads(path: Path, reads: int) -> Iterator[Cgroup]:
    """Limit the reads per second of this process, and of those it starts, from the disk of `path`.

    Raises
    ------
    CgroupRefusedError
        Where a cgroup is refused, or the path is on no disk.
    """
    disk = _disk_of(path)
    group = Cgroup("blkio", _READS)
    limit = reads if group.version == 1 else f"riops={reads}"
    group.set(_READS[group.version], f"{disk} {limit}")
    try:
        group.add(os.getpid())
        yield group
    finally:
        group.close()


def refusal() -> str | None:
    """Return why memory cgroups cannot be made here; None where they can."""
    try:
        MemoryCgroup(1 << 30).close()
    except CgroupRefusedError as error:
        return str(error)
    return None


def find_hierarchy(mountinfo: str, own_cgroups: str, controller: str) -> Hierarchy:
    """Find the cgroups of a controller in the text of /proc/self/mountinfo and /proc/self/cgroup.

    Raises
    ------
    CgroupRefusedError
        Where none are mounted.
    """
    paths = {}
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found: dict[int, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount = map(Path, before.split()[3:5])
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2":
            version, key = 2, ""
        elif kind == "cgroup" and controller in options.split(","):
            version, key = 1, controller
        else:
            continue
        own = Path(paths.get(key, "/"))
        # In a container the path of the kernel can lie outside of the mount.
        found[version] = Hierarchy(
            version, mount, mount / own.relative_to(root) if own.is_relative_to(root) else mount
        )
    if not found:
        raise CgroupRefusedError("no cgroup file system is mounted")
    return found[min(found)]


def _disk_of(path: Path) -> str:
    """Return the device numbers of the whole disk that holds a path."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        raise CgroupRefusedError(f"{path} is on no disk whose reads can be limited")
    whole = device.resolve()
    if (whole / "partition").exists():
        whole = whole.parent
    return (whole / "dev").read_text().strip()

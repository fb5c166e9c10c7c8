"""Cgroups: a limit of the memory of a process, page cache included, or of its reads.

Versions 1 and 2 of the kernel's interface; a hierarchy of version 1 is
used if it has the controller.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

#: By version: the files of the limit, of the limit with swap, and of the peak.
_MEMORY = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
    2: ("memory.max", "memory.swap.max", "memory.peak"),
}
_READS = {1: ("blkio.throttle.read_iops_device",), 2: ("io.max",)}


class CgroupRefusedError(Exception):
    """This process cannot create a cgroup; the message has the reason."""


class Cgroup:
    """A new cgroup of a controller (named as in version 1), with these files by version.

    Raises
    ------
    CgroupRefusedError
    """

    def __init__(self, controller: str, files: Mapping[int, tuple[str, ...]]) -> None:
        mounts, own = (Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup"))
        self.version, parents = find_parents(mounts, own, controller)
        self._own = parents[0]
        self.files = files[self.version]
        refusals = []
        for parent in parents:
            self.directory = parent / f"tieralloc-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                self.directory.mkdir()
            except OSError as error:
                refusals.append(error.strerror or str(error))
                continue
            if (self.directory / self.files[0]).exists():
                return
            self.directory.rmdir()
            refusals.append(f"the {controller} controller is not enabled there")
        reasons = "; ".join(dict.fromkeys(refusals))
        raise CgroupRefusedError(f"no {controller} cgroup (version {self.version}): {reasons}")

    def set(self, name: str, value: int | str) -> None:
        """Write a file of the cgroup; remove the cgroup if the write is refused."""
        try:
            (self.directory / name).write_text(str(value))
        except OSError as error:
            self.close()
            raise CgroupRefusedError(f"{name} of a cgroup cannot be set: {error}") from None

    def close(self) -> None:
        """Move its processes back to the cgroup of this process, and remove it."""
        for _ in range(100):
            with suppress(OSError):
                for pid in (self.directory / "cgroup.procs").read_text().split():
                    with suppress(ProcessLookupError):  # the process has just ended
                        (self._own / "cgroup.procs").write_text(pid)
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
        super().__init__("memory", _MEMORY)
        limit_file, swap_file, self._peak_file = self.files
        self.set(limit_file, limit)
        if (self.directory / swap_file).exists():  # a swapped row would be in neither tier
            self.set(swap_file, limit if self.version == 1 else 0)

    @property
    def peak(self) -> int:
        """Max bytes charged so far."""
        return int((self.directory / self._peak_file).read_text())


@contextmanager
def limited_reads(path: Path, reads: int) -> Iterator[Cgroup]:
    """Limit the reads per second of this process, and of its children, from the disk of `path`.

    Raises
    ------
    CgroupRefusedError
        If a cgroup is refused, or the path is not on a disk.
    """
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        raise CgroupRefusedError(
            f"{path}: no disk with a read limit; expected a path on a disk of the blkio controller"
        )
    disk = device.resolve()
    if (disk / "partition").exists():
        disk = disk.parent
    group = Cgroup("blkio", _READS)
    limit = reads if group.version == 1 else f"riops={reads}"
    group.set(group.files[0], f"{(disk / 'dev').read_text().strip()} {limit}")
    group.set("cgroup.procs", os.getpid())
    try:
        yield group
    finally:
        group.close()


def find_parents(mountinfo: str, own_cgroups: str, controller: str) -> tuple[int, list[Path]]:
    """Return the version, and directories to make a cgroup in: the cgroup of this process first.

    So limits set there continue to apply. In version 2 a cgroup with processes has no children, so
    its parent comes next. The arguments are the text of /proc/self/mountinfo and /proc/self/cgroup.

    Raises
    ------
    CgroupRefusedError
        Where none are mounted.
    """
    paths = {}
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), Path(path)))
    found: dict[int, list[Path]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount = map(Path, before.split()[3:5])
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            version, key = (2, "") if kind == "cgroup2" else (1, controller)
            path_of_own = paths.get(key, root)
            # In a container the path of the kernel can be outside the mount.
            is_below = path_of_own.is_relative_to(root)
            own = mount / path_of_own.relative_to(root) if is_below else mount
            found[version] = [own] if version == 1 or own == mount else [own, own.parent]
    if not found:
        raise CgroupRefusedError("no cgroup file system is mounted")
    version = min(found)
    return version, found[version]

"""A cgroup that limits the memory of a process, page cache included.

Versions 1 and 2 of the kernel's interface; a hierarchy of version 1 is used if it has the memory
controller.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

#: By version: the files of the limit, of the limit with swap, and of the peak.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
    2: ("memory.max", "memory.swap.max", "memory.peak"),
}


class CgroupRefusedError(Exception):
    """This process cannot create a cgroup; the message has the reason."""


class MemoryCgroup:
    """A cgroup with a memory limit, the only bound of the page cache that a process uses.

    Memory taken before a process joins is charged to its former cgroup.
    """

    def __init__(self, limit: int) -> None:
        self._create()
        limit_file, swap_file, self._peak_file = _FILES[self.version]
        self.set(limit_file, limit)
        if (self.directory / swap_file).exists():  # a swapped row would be in neither tier
            self.set(swap_file, limit if self.version == 1 else 0)

    def _create(self) -> None:
        mounts, own = (Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup"))
        self.version, parents = find_parents(mounts, own)
        self._own = parents[0]
        refusals = []
        for parent in parents:
            self.directory = parent / f"tieralloc-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                self.directory.mkdir()
            except OSError as error:
                refusals.append(error.strerror or str(error))
                continue
            if (self.directory / _FILES[self.version][0]).exists():
                return
            self.directory.rmdir()
            refusals.append("the memory controller is not enabled there")
        reasons = "; ".join(dict.fromkeys(refusals))
        raise CgroupRefusedError(f"no memory cgroup (version {self.version}): {reasons}")

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

    @property
    def peak(self) -> int:
        """Max bytes charged so far."""
        return int((self.directory / self._peak_file).read_text())


def find_parents(mountinfo: str, own_cgroups: str) -> tuple[int, list[Path]]:
    """Return the version, and directories to make a cgroup in: the cgroup of this process first.

    So limits set there continue to apply. In version 2 a cgroup with processes has no children, so
    its parent comes next. The arguments are the text of /proc/self/mountinfo and /proc/self/cgroup.
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
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            version, key = (2, "") if kind == "cgroup2" else (1, "memory")
            path_of_own = paths.get(key, root)
            # In a container the path of the kernel can be outside the mount.
            is_below = path_of_own.is_relative_to(root)
            own = mount / path_of_own.relative_to(root) if is_below else mount
            found[version] = [own] if version == 1 or own == mount else [own, own.parent]
    if not found:
        raise CgroupRefusedError("no cgroup file system is mounted")
    version = min(found)
    return version, found[version]

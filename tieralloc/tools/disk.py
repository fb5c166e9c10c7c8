"""Where a directory lives: its file system, whether that is a disk at all, and what it can do."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

#: Bytes of a direct read, and where it may begin.
BLOCK = 4096
#: Bytes of the file that `direct_read_us` makes.
PROBE_BYTES = 16 << 20
_PROBE_READS = 128

_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


class FileSystem(NamedTuple):
    """A mounted file system."""

    kind: str  # such as "ext4"
    mount_point: str
    device: str

    @property
    def in_memory(self) -> bool:
        """Whether its files live in DRAM."""
        return self.kind in _IN_MEMORY


def file_system_of(path: str | os.PathLike[str]) -> FileSystem:
    """Say which file system a file or directory is on; one of kind "unknown" if none tells."""
    real = Path(path).resolve()
    best = FileSystem("unknown", "", "")
    for part in psutil.disk_partitions(all=True):
        # Of two mounts on one point the later one, which hides the other.
        if real.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(best.mount_point):
            best = FileSystem(part.fstype, part.mountpoint, part.device)
    return best


def default_directory() -> Path:
    """Where to put a large temporary file: the temporary directory, if that is on a disk.

    TMPDIR is obeyed where it is set. Else, as /tmp is memory on many machines, /var/tmp and the
    working directory come next.
    """
    first = Path(tempfile.gettempdir())
    if os.environ.get("TMPDIR"):
        return first
    for directory in (first, Path("/var/tmp"), Path.cwd()):
        usable = directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)
        if usable and not file_system_of(directory).in_memory:
            return directory
    return first


def can_reserve(descriptor: int, size: int) -> bool:
    """Reserve disk blocks for a file, as a store does; say whether its file system can.

    Raises
    ------
    OSError
        Where it could, but the disk is full or failing.
    """
    # posix_fallocate, which Python has, writes the whole file where the file system cannot.
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, 0, 0, size) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def direct_read_us(descriptor: int) -> float:
    """Median time of a random read past the page cache, in microseconds.

    Parameters
    ----------
    descriptor : int
        Of a file open for reading and writing; its first `PROBE_BYTES` are overwritten.

    Raises
    ------
    OSError
        Where the file system has no such reads.
    """
    for at in range(0, PROBE_BYTES, 1 << 20):
        os.pwrite(descriptor, os.urandom(1 << 20), at)
    os.fsync(descriptor)
    # The file may have no name; /proc leads to it.
    direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECT)
    try:
        times = []
        with mmap.mmap(-1, BLOCK) as block:
            for i in range(_PROBE_READS):
                at = i * 2654435761 % (PROBE_BYTES // BLOCK) * BLOCK
                began = time.perf_counter_ns()
                os.preadv(direct, [block], at)
                times.append(time.perf_counter_ns() - began)
    finally:
        os.close(direct)
    return sorted(times)[len(times) // 2] / 1000

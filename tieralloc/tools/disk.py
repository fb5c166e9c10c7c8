"""The file system of a directory: its kind, whether it is in memory, and its capabilities."""

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

#: Bytes and alignment of a direct read.
BLOCK = 4096
#: Bytes that `direct_read_us` writes.
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
        """Whether its files are in DRAM."""
        return self.kind in _IN_MEMORY


def file_system_of(path: str | os.PathLike[str]) -> FileSystem:
    """Return the file system of a file or directory; kind "unknown" if no mount matches."""
    real = Path(path).resolve()
    deepest = FileSystem("unknown", "", "")
    for part in psutil.disk_partitions(all=True):
        # The later of two mounts on one point hides the earlier one.
        if real.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(
            deepest.mount_point
        ):
            deepest = FileSystem(part.fstype, part.mountpoint, part.device)
    return deepest


def default_directory() -> Path:
    """Return a directory for a large temporary file: the temporary directory if it is on a disk.

    TMPDIR takes precedence if it is set. Otherwise the first of /tmp, /var/tmp and the working
    directory that is on a disk, because /tmp is memory on many machines.
    """
    first = Path(tempfile.gettempdir())
    if os.environ.get("TMPDIR"):
        return first
    for directory in (first, Path("/var/tmp"), Path.cwd()):
        is_usable = directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)
        if is_usable and not file_system_of(directory).in_memory:
            return directory
    return first


def can_reserve(descriptor: int, size: int) -> bool:
    """Reserve disk blocks for a file, as a store does; return whether its file system can.

    OSError if the disk is full or fails.
    """
    # os.posix_fallocate writes the whole file if the file system cannot reserve.
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, 0, 0, size) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def direct_read_us(descriptor: int) -> float:
    """Return the median time of a random read that bypasses the page cache, in microseconds.

    The first `PROBE_BYTES` of the file are overwritten. OSError if the file system has no direct
    reads.
    """
    for offset in range(0, PROBE_BYTES, 1 << 20):
        os.pwrite(descriptor, os.urandom(1 << 20), offset)
    os.fsync(descriptor)
    # The file may have no name; /proc gives a path to it.
    direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECT)
    try:
        times = []
        with mmap.mmap(-1, BLOCK) as block:
            for i in range(_PROBE_READS):
                offset = i * 2654435761 % (PROBE_BYTES // BLOCK) * BLOCK
                start = time.perf_counter_ns()
                os.preadv(direct, [block], offset)
                times.append(time.perf_counter_ns() - start)
    finally:
        os.close(direct)
    return sorted(times)[len(times) // 2] / 1000

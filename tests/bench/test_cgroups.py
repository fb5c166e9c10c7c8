"""Cgroups that limit the page cache of a process."""

import signal
from pathlib import Path

import pytest

from bench.scenery.cgroups import CgroupRefusedError, MemoryCgroup, find_parents
from bench.scenery.processes import Child, ChildFailedError

LIMIT = 64 << 20

VERSION_1 = """\
25 30 0:23 / /proc rw,nosuid - proc proc rw
34 26 0:29 / /sys/fs/cgroup/blkio rw,nosuid - cgroup cgroup rw,blkio
35 26 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
38 26 0:33 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
"""
VERSION_2 = "35 26 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "35 26 0:30 /docker/4f /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "own", "expected"),
    [
        (VERSION_1, "4:cpu,memory:/jobs/7\n0::/\n", (1, ["memory/jobs/7"])),
        (VERSION_2, "0::/user.slice/app.scope\n", (2, ["user.slice/app.scope", "user.slice"])),
        (CONTAINER, "0::/docker/4f\n", (2, [""])),
        (CONTAINER, "0::/\n", (2, [""])),
        (CONTAINER, "0::/../elsewhere\n", (2, [""])),
    ],
)
def test_find_parents_returns_cgroup_of_this_process(mounts, own, expected):
    version, directories = expected
    root = Path("/sys/fs/cgroup")
    parents = find_parents(mounts, own)
    assert parents == (version, [root / directory for directory in directories])


def test_find_parents_without_mount_raises():
    with pytest.raises(CgroupRefusedError, match="no cgroup file system"):
        find_parents("25 30 0:23 / /proc rw - proc proc rw\n", "0::/\n")


class Memory:
    def take(self, size):
        memory = bytearray(size)
        memory[::4096] = b"x" * len(memory[::4096])


@pytest.mark.parametrize("share", [0.25, 2.0])
def test_memory_cgroup_kills_process_beyond_limit(share):
    try:
        group = MemoryCgroup(LIMIT)
    except CgroupRefusedError as error:
        pytest.skip(str(error))
    size = int(LIMIT * share)
    child = Child("memory", Memory)
    try:
        group.set("cgroup.procs", child.pid)
        if share < 1:
            child.call("take", size)
        else:
            with pytest.raises(ChildFailedError, match=f"exit code {-signal.SIGKILL}"):
                child.call("take", size)
        assert min(size, LIMIT) * 0.9 <= group.peak <= LIMIT
    finally:
        child.close()
        group.close()
    assert not group.directory.exists()

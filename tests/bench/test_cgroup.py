"""The memory cgroup that bounds a peer's page cache: found, made, and kept to."""

import multiprocessing
import signal
from pathlib import Path

import pytest

from bench.peers.cgroup import CgroupRefusedError, MemoryCgroup, find_hierarchy, refusal

LIMIT = 64 << 20

VERSION_1 = """\
25 30 0:23 / /proc rw,nosuid - proc proc rw
35 26 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
38 26 0:33 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
"""
VERSION_2 = "35 26 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "35 26 0:30 /docker/4f /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


def test_version_1_is_taken_where_it_has_the_memory_controller():
    found = find_hierarchy(VERSION_1, "4:cpu,memory:/jobs/7\n0::/\n")
    assert found == (1, Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory/jobs/7"))


def test_version_2_is_taken_where_it_is_alone():
    found = find_hierarchy(VERSION_2, "0::/user.slice/app.scope\n")
    assert found == (2, Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/user.slice/app.scope"))


@pytest.mark.parametrize("path", ["/docker/4f", "/", "/../elsewhere"])
def test_a_container_s_own_cgroup_is_what_is_mounted(path):
    own = find_hierarchy(CONTAINER, f"0::{path}\n").own
    assert own == Path("/sys/fs/cgroup")


def test_no_mount_is_a_refusal():
    with pytest.raises(CgroupRefusedError, match="no cgroup file system"):
        find_hierarchy("25 30 0:23 / /proc rw - proc proc rw\n", "0::/\n")


def _take_memory(ready, size):
    ready.recv()
    memory = bytearray(size)
    memory[::4096] = b"x" * len(memory[::4096])
    ready.send(len(memory))


@pytest.mark.parametrize("share", [0.25, 2.0])
def test_a_process_may_take_what_the_limit_allows_and_no_more(share):
    reason = refusal()
    if reason is not None:
        pytest.skip(reason)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    size = int(LIMIT * share)
    child = context.Process(target=_take_memory, args=(theirs, size))
    group = MemoryCgroup(LIMIT)
    try:
        child.start()
        theirs.close()
        group.add(child.pid)
        ours.send("go")
        child.join()
        assert child.exitcode == (0 if share < 1 else -signal.SIGKILL)
        assert min(size, LIMIT) * 0.9 <= group.peak <= LIMIT
    finally:
        child.kill()
        child.join()
        group.close()

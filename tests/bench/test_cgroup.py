"""Cgroups that bound a peer's page cache and a disk's reads: found, made, and kept to."""

import multiprocessing
import signal
import subprocess
from pathlib import Path

import pytest

from bench.cgroup import (
    CgroupRefusedError,
    MemoryCgroup,
    ReadRateCgroup,
    find_hierarchy,
    reading_slowly,
    refusal,
)

LIMIT = 64 << 20

VERSION_1 = """\
25 30 0:23 / /proc rw,nosuid - proc proc rw
34 26 0:29 / /sys/fs/cgroup/blkio rw,nosuid - cgroup cgroup rw,blkio
35 26 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
38 26 0:33 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
"""
VERSION_2 = "35 26 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "35 26 0:30 /docker/4f /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


def test_version_1_is_taken_where_it_has_the_memory_controller():
    found = find_hierarchy(VERSION_1, "4:cpu,memory:/jobs/7\n0::/\n")
    assert found == (1, Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory/jobs/7"))


def test_each_controller_of_version_1_has_cgroups_of_its_own():
    found = find_hierarchy(VERSION_1, "4:memory:/jobs/7\n5:blkio:/io\n0::/\n", "blkio")
    assert found == (1, Path("/sys/fs/cgroup/blkio"), Path("/sys/fs/cgroup/blkio/io"))
    assert find_hierarchy(VERSION_2, "0::/jobs\n", "blkio").own == Path("/sys/fs/cgroup/jobs")


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


def test_reads_are_limited_for_as_long_as_they_should_be(tmp_path):
    try:
        ReadRateCgroup(tmp_path, 1000).close()
    except CgroupRefusedError as error:
        pytest.skip(str(error))
    before = Path("/proc/self/cgroup").read_text()
    with reading_slowly(tmp_path, 1234):
        found = find_hierarchy(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text(), "blkio"
        )
        limits = {1: "blkio.throttle.read_iops_device", 2: "io.max"}[found.version]
        assert "1234" in (found.own / limits).read_text()
        assert found.own.name.startswith("tieralloc-bench-")
        helper = subprocess.Popen(["sleep", "60"])
    try:
        assert Path("/proc/self/cgroup").read_text() == before
        assert Path(f"/proc/{helper.pid}/cgroup").read_text() == before
        assert not found.own.exists()
    finally:
        helper.kill()
        helper.wait()


def test_what_is_on_no_disk_cannot_be_slowed_down():
    with pytest.raises(CgroupRefusedError, match="is on no disk whose reads can be limited"):
        ReadRateCgroup(Path("/proc"), 1000)

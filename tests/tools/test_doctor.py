"""The doctor: its checks agree with the machine."""

import errno
import os
import re
from pathlib import Path

import psutil
import pytest

from tieralloc import File, TieredStore, _bindings
from tieralloc.tools import doctor


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("probed")
    by_topic = {check.topic: check for check in doctor.examine(directory)}
    assert not list(directory.iterdir()), "the probe file remains"
    return by_topic


def test_examine_each_warning_has_advice(checks):
    for check in checks.values():
        assert check.status in ("ok", "warn")
        assert bool(check.advice) == (check.status == "warn"), check


def test_examine_engines_match_the_bindings(checks):
    for name, refusal in _bindings.fetch_engines().items():
        assert (checks[name].status == "warn") == bool(refusal)
        assert checks[name].found == (refusal or "works")


def test_examine_names_processor_and_kernel(checks):
    assert f"{len(os.sched_getaffinity(0))} cores" in checks["processor"].found
    assert checks["processor"].found.endswith(f"{_bindings.kernel_isa()} kernels")
    assert os.uname().release in checks["kernel"].found
    assert os.uname().nodename not in checks["processor"].found


def test_to_text_warning_ends_in_next_steps():
    checks = [
        doctor.Check("disk", "ok", "mounted"),
        doctor.Check("huge pages", "warn", "off", "enable them"),
    ]
    text = doctor.to_text(checks)
    assert text.splitlines()[0] == "[ok]    disk        mounted"
    assert text.endswith("Next steps:\n  huge pages: enable them")
    assert doctor.to_text(checks[:1]).endswith("All checks passed.")


def test_examine_memory_file_system_warns(checks):
    if not os.access("/dev/shm", os.W_OK) or not Path("/dev/shm").is_mount():
        pytest.skip("/dev/shm is missing or not writable")
    checks = {check.topic: check for check in doctor.examine(Path("/dev/shm"))}
    assert checks["file system"].status == "warn"
    assert "DRAM" in checks["file system"].advice


def test_examine_missing_directory_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        doctor.examine(tmp_path / "nowhere")


def test_examine_full_disk_warns(tmp_path, monkeypatch):
    def full(descriptor, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(doctor, "can_reserve", full)
    checks = {check.topic: check for check in doctor.examine(tmp_path)}
    assert checks["probe file"].status == "warn"
    assert "No space left on device" in checks["probe file"].found
    assert not list(tmp_path.iterdir())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_cgroup_memory_nested_takes_lowest_limit(tmp_path):
    write(tmp_path / "membership", "0::/service/worker")
    root = tmp_path / "cgroup"
    write(root / "service" / "memory.max", 1 << 30)
    write(root / "service" / "memory.current", 5000)
    write(root / "service" / "worker" / "memory.max", "max")
    assert doctor._cgroup_memory(root, tmp_path / "membership") == (1 << 30, 5000)
    write(root / "service" / "worker" / "memory.max", 1 << 20)
    assert doctor._cgroup_memory(root, tmp_path / "membership")[0] == 1 << 20


def test_cgroup_memory_container_reads_root(tmp_path):
    write(tmp_path / "membership", "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/")
    write(tmp_path / "cgroup" / "memory" / "memory.limit_in_bytes", 1 << 28)
    write(tmp_path / "cgroup" / "memory" / "memory.usage_in_bytes", 77)
    limit, used = doctor._cgroup_memory(tmp_path / "cgroup", tmp_path / "membership")
    assert (limit, used) == (1 << 28, 77)


def test_cgroup_limit_below_memory_warns(monkeypatch):
    monkeypatch.setattr(doctor, "_cgroup_memory", lambda: (1 << 20, 0))
    assert doctor._cgroup().status == "warn"
    monkeypatch.setattr(doctor, "_cgroup_memory", lambda: (psutil.virtual_memory().total, 0))
    assert doctor._cgroup().status == "ok"


def test_nodes_without_cpus_are_memory_only(tmp_path):
    for node, cpus in ((0, "0-3"), (10, ""), (2, "4-7")):
        write(tmp_path / f"node{node}" / "cpulist", cpus)
        write(tmp_path / f"node{node}" / "meminfo", f"Node {node} MemTotal: 2097152 kB")
    assert doctor._nodes(tmp_path).found == (
        "0: 2.0 GiB, cpus 0-3; 2: 2.0 GiB, cpus 4-7; 10: 2.0 GiB, memory only"
    )


def test_examine_measures_reads_at_the_depth_in_use(checks):
    depth = File("unused").queue_depth
    assert re.match(rf"[\d,]+ rows/s by .* at depth {depth}, ", checks["store's reads"].found)


def test_examine_proposes_a_budget_that_holds_its_rows(tmp_path):
    checks = {check.topic: check for check in doctor.examine(tmp_path, 1_000_000, 32)}
    found = re.match(r"fast_bytes=(\d+)MiB holds ([\d,]+) rows", checks["budget"].found)
    size, rows = int(found[1]) << 20, int(found[2].replace(",", ""))
    assert 0.05 * 1_000_000 <= rows < 0.1 * 1_000_000
    with TieredStore(tmp_path / "emb.tier", mode="w", fast_bytes=size) as store:
        store.create_table("item", 1_000_000, 32)
        assert store.stats().fast_rows == rows
    assert "1,000,000 rows of 32 elements: 122.1 MiB" in checks["table"].found
    assert re.search(r"at 5%, .* at 10%, .* at 30%", checks["lookups/s"].found)


def test_examine_table_larger_than_disk_warns(tmp_path):
    checks = {check.topic: check for check in doctor.examine(tmp_path, 10**10, 64)}
    assert (checks["table"].status, checks["budget"].status) == ("warn", "warn")
    assert not list(tmp_path.iterdir())

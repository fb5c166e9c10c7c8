"""The doctor: what it says of a machine must be so."""

import errno
import os
from pathlib import Path

import psutil
import pytest

from tieralloc import _bindings
from tieralloc.tools import doctor


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("probed")
    found = doctor.examine(directory)
    assert not list(directory.iterdir()), "the probe is left behind"
    return {finding.topic: finding for finding in found}


def test_each_warning_has_a_next_step(findings):
    for finding in findings.values():
        assert finding.status in ("ok", "warn")
        assert bool(finding.advice) == (finding.status == "warn"), finding


def test_engines_are_those_that_the_store_could_use(findings):
    for name, refusal in _bindings.fetch_engines().items():
        assert (findings[name].status == "warn") == bool(refusal)
        assert findings[name].found == (refusal or "works")


def test_processor_and_kernel_are_this_machines(findings):
    assert f"{len(os.sched_getaffinity(0))} cores" in findings["processor"].found
    assert findings["processor"].found.endswith(f"{_bindings.kernel_isa()} kernels")
    assert os.uname().release in findings["kernel"].found
    assert os.uname().nodename not in findings["processor"].found


def test_the_text_ends_in_what_to_do():
    lines = [
        doctor.Finding("disk", "ok", "there"),
        doctor.Finding("huge pages", "warn", "off", "turn them on"),
    ]
    text = doctor.to_text(lines)
    assert text.splitlines()[0] == "[ok]    disk        there"
    assert text.endswith("What to do:\n  huge pages: turn them on")
    assert doctor.to_text(lines[:1]).endswith("Nothing is amiss.")


def test_memory_as_a_file_system_is_warned_of(findings):
    if not os.access("/dev/shm", os.W_OK) or not Path("/dev/shm").is_mount():
        pytest.skip("/dev/shm is not there to be written")
    found = {finding.topic: finding for finding in doctor.examine(Path("/dev/shm"))}
    assert found["file system"].status == "warn"
    assert "DRAM" in found["file system"].advice


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        doctor.examine(tmp_path / "nowhere")


def test_a_disk_without_room_for_the_probe_is_warned_of(tmp_path, monkeypatch):
    def full(descriptor, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(doctor, "can_reserve", full)
    found = {finding.topic: finding for finding in doctor.examine(tmp_path)}
    assert found["probe file"].status == "warn"
    assert "No space left on device" in found["probe file"].found
    assert not list(tmp_path.iterdir())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_the_tightest_limit_of_nested_cgroups_counts(tmp_path):
    write(tmp_path / "membership", "0::/service/worker")
    root = tmp_path / "cgroup"
    write(root / "service" / "memory.max", 1 << 30)
    write(root / "service" / "memory.current", 5000)
    write(root / "service" / "worker" / "memory.max", "max")
    found = doctor._cgroup_memory(root, tmp_path / "membership")
    assert found == (1 << 30, 5000)
    write(root / "service" / "worker" / "memory.max", 1 << 20)
    assert doctor._cgroup_memory(root, tmp_path / "membership")[0] == 1 << 20


def test_a_container_that_sees_its_cgroup_at_the_root_is_limited(tmp_path):
    write(tmp_path / "membership", "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/")
    write(tmp_path / "cgroup" / "memory" / "memory.limit_in_bytes", 1 << 28)
    write(tmp_path / "cgroup" / "memory" / "memory.usage_in_bytes", 77)
    found = doctor._cgroup_memory(tmp_path / "cgroup", tmp_path / "membership")
    assert found == (1 << 28, 77)


def test_a_limit_below_the_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_cgroup_memory", lambda: (1 << 20, 0))
    assert doctor._cgroup().status == "warn"
    monkeypatch.setattr(doctor, "_cgroup_memory", lambda: (psutil.virtual_memory().total, 0))
    assert doctor._cgroup().status == "ok"


def test_nodes_without_processors_are_memory_only(tmp_path):
    for node, cpus in ((0, "0-3"), (10, ""), (2, "4-7")):
        write(tmp_path / f"node{node}" / "cpulist", cpus)
        write(tmp_path / f"node{node}" / "meminfo", f"Node {node} MemTotal: 2097152 kB")
    assert doctor._nodes(tmp_path).found == (
        "0: 2.0 GiB, cpus 0-3; 2: 2.0 GiB, cpus 4-7; 10: 2.0 GiB, memory only"
    )

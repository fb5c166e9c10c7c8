"""``tieralloc doctor``: what a machine offers a store, and what to do about the rest."""

from __future__ import annotations

import mmap
import platform
import re
import resource
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from tieralloc import _bindings
from tieralloc._common.files import check_writable
from tieralloc._common.numbers import format_size
from tieralloc.tools import numa_findings as _numa_findings
from tieralloc.tools.disk import BLOCK, PROBE_BYTES, can_reserve, direct_read_us, file_system_of
from tieralloc.tools.machine import core_count, cpu_model, read_text
from tieralloc.tools.report import align

_SLOW_READ_US = 2000


class Finding(NamedTuple):
    """One thing looked at."""

    topic: str
    status: Literal["ok", "warn"]
    found: str
    advice: str = ""  # the next step, where the status is "warn"


def examine(directory: Path) -> list[Finding]:
    """Look at the machine, and at the disk of a directory.

    Parameters
    ----------
    directory : path
        Where a slow tier's file would be. A probe file is made there and removed.

    Raises
    ------
    OSError
        Where the directory is none that may be written.
    """
    check_writable(directory / "slow.tier")
    return [
        _processor(),
        _kernel(),
        _memory(),
        _cgroup(),
        _nodes(),
        *_node_details(),
        _cpuset(),
        _transparent_huge_pages(),
        _reserved_huge_pages(),
        *_engines(),
        *_limits(),
        *_disk(directory),
        *_packages(),
    ]


def to_text(findings: list[Finding]) -> str:
    """Lay findings out for a person: what to do comes after what was found."""
    lines = [[f"[{finding.status}]", finding.topic, finding.found] for finding in findings]
    text = align(lines, numbers=False)
    steps = [f"  {f.topic}: {f.advice}" for f in findings if f.status == "warn"]
    if not steps:
        return f"{text}\n\nNothing is amiss."
    return "\n".join([text, "", "What to do:", *steps])


def _processor() -> Finding:
    found = f"{cpu_model()}, {core_count()} cores, {_bindings.kernel_isa()} kernels"
    return Finding("processor", "ok", found)


def _kernel() -> Finding:
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < (5, 6):
        return Finding("kernel", "warn", f"Linux {release}", "5.6 or newer has the io_uring we use")
    return Finding("kernel", "ok", f"Linux {release}")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{format_size(memory.available)} available of {format_size(memory.total)}"
    if memory.available < memory.total / 10:
        return Finding("memory", "warn", found, "less than a tenth is free; stop something else")
    return Finding("memory", "ok", found)


def _cgroup() -> Finding:
    limit, used = _cgroup_memory()
    if limit is None or limit >= psutil.virtual_memory().total:
        return Finding("cgroup memory", "ok", "no limit below the machine's memory")
    found = f"{format_size(used or 0)} used of a limit of {format_size(limit)}"
    return Finding(
        "cgroup memory",
        "warn",
        found,
        "keep fast_bytes well below the limit: who exceeds it is killed, and the page cache of"
        " the file counts",
    )


def _cgroup_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, int | None]:
    """Tightest memory limit of this process's cgroups, version 1 or 2, and what of it is used."""
    tightest: tuple[int | None, int | None] = (None, None)
    for line in (read_text(membership) or "").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        unified = hierarchy == "0" and not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        base = root if unified else root / "memory"
        names = ("memory.max", "memory.current")
        if not unified:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        # A container may see its own cgroup at the root, whatever path it is told.
        group = base / path.lstrip("/")
        for place in [group, *group.parents]:
            if not place.is_relative_to(base):
                break
            limit, used = (read_text(place / name) or "" for name in names)
            if limit.isdecimal() and (tightest[0] is None or int(limit) < tightest[0]):
                tightest = (int(limit), int(used) if used.isdecimal() else None)
    return tightest


def _nodes(root: Path = Path("/sys/devices/system/node")) -> Finding:
    described = []
    for node in sorted(root.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        cpus = read_text(node / "cpulist")
        total = re.search(r"MemTotal:\s+(\d+) kB", read_text(node / "meminfo") or "")
        size = format_size(int(total[1]) << 10) if total else "unknown"
        described.append(f"{node.name[4:]}: {size}, {f'cpus {cpus}' if cpus else 'memory only'}")
    if not described:
        return Finding("NUMA nodes", "ok", "one (the kernel names none)")
    return Finding("NUMA nodes", "ok", "; ".join(described))


def _node_details() -> list[Finding]:
    details = (
        ("free memory", _numa_findings.free_memory()),
        ("node distances", _numa_findings.distances()),
        ("memory tiers", _numa_findings.tiers()),
        ("access attributes", _numa_findings.access_attributes()),
    )
    return [Finding(topic, "ok", found or "the kernel tells none") for topic, found in details]


def _cpuset() -> Finding:
    outside = _numa_findings.outside_cpuset()
    if not outside:
        return Finding("cpuset", "ok", "all nodes with memory may be used")
    nodes = f"node{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}"
    return Finding(
        "cpuset",
        "warn",
        f"keeps this process away from the memory of {nodes}",
        "cpuset.mems of the container's cgroup must have a node that is to be a slow tier",
    )


def _transparent_huge_pages() -> Finding:
    text = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", text)
    if chosen is None:
        return Finding(
            "huge pages",
            "warn",
            "the kernel has no transparent ones",
            "lookups take more TLB misses",
        )
    if chosen[1] == "never":
        return Finding(
            "huge pages",
            "warn",
            "transparent ones are off (never)",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        )
    size = int(read_text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") or 2 << 20)
    asked = 4 * size
    got = _huge_bytes_of(asked, size)
    found = f"transparent, {chosen[1]}; {format_size(got)} of {format_size(asked)} asked for"
    if got < asked // 2:
        return Finding(
            "huge pages",
            "warn",
            found,
            "memory is fragmented or the container forbids them; echo 1 | sudo tee"
            " /proc/sys/vm/compact_memory",
        )
    return Finding("huge pages", "ok", found)


def _huge_bytes_of(asked: int, size: int) -> int:
    """Bytes of huge pages that the kernel gives to a mapping that asks for them."""
    with mmap.mmap(-1, asked + size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        before = _anonymous_huge_bytes()
        for at in range(0, len(memory), BLOCK):
            memory[at] = 1
        return max(0, min(_anonymous_huge_bytes() - before, asked))


def _anonymous_huge_bytes() -> int:
    found = re.search(r"AnonHugePages:\s+(\d+) kB", read_text("/proc/self/smaps_rollup") or "")
    return int(found[1]) << 10 if found else 0


def _reserved_huge_pages() -> Finding:
    total = read_text("/proc/sys/vm/nr_hugepages")
    return Finding(
        "reserved huge pages", "ok", f"{total or 'none'} (a store uses transparent ones)"
    )


def _engines() -> list[Finding]:
    findings = []
    for name, refusal in _bindings.fetch_engines().items():
        if not refusal:
            findings.append(Finding(name, "ok", "works"))
            continue
        advice = "reads fall back to the next engine, with less depth a thread"
        disabled = read_text("/proc/sys/kernel/io_uring_disabled")
        if name == "io_uring" and disabled not in (None, "0"):
            advice = f"sudo sysctl kernel.io_uring_disabled=0 (it is {disabled})"
        elif name == "io_uring":
            advice = "allow io_uring_setup in the container's seccomp profile; else pread serves"
        findings.append(Finding(name, "warn", refusal, advice))
    return findings


def _limits() -> list[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    few = files != resource.RLIM_INFINITY and files < 1024
    return [
        Finding(
            "open files",
            "warn" if few else "ok",
            _limit(files, str),
            "ulimit -n 1024, or LimitNOFILE= of the service" if few else "",
        ),
        Finding("locked memory", "ok", _limit(locked, format_size)),
    ]


def _limit(value: int, text: Callable[[int], str]) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else f"at most {text(value)}"


def _disk(directory: Path) -> list[Finding]:
    system = file_system_of(directory)
    usage = psutil.disk_usage(str(directory))
    where = f"{system.kind} at {system.mount_point or '?'} ({system.device or 'no device'})"
    findings = [Finding("slow tier's directory", "ok", str(directory.resolve()))]
    if system.in_memory:
        findings.append(
            Finding(
                "file system", "warn", where, "it is DRAM, not a disk; choose another directory"
            )
        )
    else:
        findings.append(Finding("file system", "ok", where))
    tight = usage.free < usage.total / 20
    findings.append(
        Finding(
            "disk space",
            "warn" if tight else "ok",
            f"{format_size(usage.free)} free of {format_size(usage.total)}",
            "less than a twentieth is free; a table takes rows x (row bytes rounded up to 64)"
            if tight
            else "",
        )
    )
    try:
        with tempfile.TemporaryFile(prefix="tieralloc-doctor-", dir=directory) as probe:
            findings += [_reservation(probe.fileno()), _direct_reads(probe.fileno())]
    except OSError as error:
        found = f"cannot write {format_size(PROBE_BYTES)}: {error.strerror}"
        findings.append(Finding("probe file", "warn", found, "make room, or choose another disk"))
    return findings


def _reservation(descriptor: int) -> Finding:
    if can_reserve(descriptor, PROBE_BYTES):
        return Finding("reserving space", "ok", "works (fallocate)")
    return Finding(
        "reserving space",
        "warn",
        "this file system cannot (fallocate)",
        "a disk that fills up is then an error of later writes; watch its free space",
    )


def _direct_reads(descriptor: int) -> Finding:
    try:
        median = direct_read_us(descriptor)
    except OSError as error:
        return Finding(
            "direct reads",
            "warn",
            f"refused (O_DIRECT): {error.strerror}",
            "reads go through the page cache, which is DRAM too; ext4 and xfs have O_DIRECT",
        )
    found = f"work (O_DIRECT); {BLOCK} random bytes take {median:,.0f} µs, one at a time"
    if median > _SLOW_READ_US:
        advice = "that is a slow disk; NVMe takes about 100 µs"
        return Finding("direct reads", "warn", found, advice)
    return Finding("direct reads", "ok", found)


def _packages() -> list[Finding]:
    findings = []
    for package, extra, purpose in (
        ("torch", "torch", "torch modules and .pt traces"),
        ("matplotlib", "plot", "plots"),
        ("tqdm", "plot", "progress bars"),
    ):
        try:
            found = f"{package} {metadata.version(package)} ({purpose})"
        except metadata.PackageNotFoundError:
            found = f"not installed; {purpose}: pip install 'tieralloc[{extra}]'"
        findings.append(Finding(package, "ok", found))
    return findings

"""``tieralloc doctor``: checks of the machine and the disk, each with a next step if it fails."""

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
from tieralloc.tools import numa_sysfs as _numa_sysfs
from tieralloc.tools.capacity import rows_within
from tieralloc.tools.disk import BLOCK, PROBE_BYTES, can_reserve, direct_read_us, file_system_of
from tieralloc.tools.machine import core_count, cpu_model, read_text
from tieralloc.tools.read_speed import ReadSpeed, measure_reads
from tieralloc.tools.report import align, percent, short

_SLOW_READ_US = 2000
_BUDGET_SHARE = 0.05  # of the rows
_ROW_OVERHEAD = 64  # bytes of index, metadata and padding per row, about
_MISS_RATIOS = (0.05, 0.1, 0.3)


class Check(NamedTuple):
    """Result of one check."""

    topic: str
    status: Literal["ok", "warn"]
    found: str
    advice: str = ""  # the next step if the status is "warn"

    @classmethod
    def of(cls, topic: str, found: str, advice: str = "") -> Check:
        """Return a check with a warning if there is advice."""
        return cls(topic, "warn" if advice else "ok", found, advice)


def examine(directory: Path, rows: int | None = None, embedding_dim: int = 64) -> list[Check]:
    """Check the machine, and the disk of a directory; propose a budget for a table of these sizes.

    Probe files are created in the directory and removed. OSError if it does not exist or is not
    writable.
    """
    check_writable(directory / "slow.tier")
    speed = _read_speed(directory)
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
        _reads_at_depth(speed),
        *([] if rows is None else _budget(directory, rows, embedding_dim, speed)),
        *_packages(),
    ]


def to_text(checks: list[Check]) -> str:
    """Format checks as text: the results, then the next steps."""
    lines = [[f"[{check.status}]", check.topic, check.found] for check in checks]
    text = align(lines, numbers=False)
    steps = [["", f"{check.topic}: {check.advice}"] for check in checks if check.status == "warn"]
    if not steps:
        return f"{text}\n\nAll checks passed."
    return f"{text}\n\nNext steps:\n{align(steps, numbers=False)}"


def _processor() -> Check:
    text = f"{cpu_model()}, {core_count()} cores, {_bindings.kernel_isa()} kernels"
    return Check.of("processor", text)


def _kernel() -> Check:
    release = platform.release()
    is_old = tuple(int(part) for part in re.findall(r"\d+", release)[:2]) < (5, 6)
    return Check.of(
        "kernel", f"Linux {release}", "io_uring needs Linux 5.6 or newer" if is_old else ""
    )


def _memory() -> Check:
    memory = psutil.virtual_memory()
    text = f"{format_size(memory.available)} available of {format_size(memory.total)}"
    is_low = memory.available < memory.total / 10
    return Check.of("memory", text, "less than 10% is free; stop other programs" if is_low else "")


def _cgroup() -> Check:
    limit, used = _cgroup_memory()
    if limit is None or limit >= psutil.virtual_memory().total:
        return Check.of("cgroup memory", "no limit below the machine's memory")
    return Check.of(
        "cgroup memory",
        f"{format_size(used or 0)} used of a limit of {format_size(limit)}",
        "keep fast_bytes well below the limit: the kernel kills a process that exceeds it, and the"
        " page cache of the file counts",
    )


def _cgroup_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, int | None]:
    """Return the lowest memory limit of this process's cgroups (v1 or v2) and the bytes in use."""
    lowest: tuple[int | None, int | None] = (None, None)
    for line in (read_text(membership) or "").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        unified = hierarchy == "0" and not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        base = root if unified else root / "memory"
        names = ("memory.max", "memory.current")
        if not unified:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        # A container may see its own cgroup at the root, although its path differs.
        group = base / path.lstrip("/")
        for directory in [group, *group.parents]:
            if not directory.is_relative_to(base):
                break
            limit, used = (read_text(directory / name) or "" for name in names)
            if limit.isdecimal() and (lowest[0] is None or int(limit) < lowest[0]):
                lowest = (int(limit), int(used) if used.isdecimal() else None)
    return lowest


def _nodes(root: Path = _numa_sysfs.NODES) -> Check:
    nodes = []
    for node in _numa_sysfs.node_numbers(root):
        cpus = read_text(root / f"node{node}" / "cpulist")
        total = _numa_sysfs.node_field(node, "MemTotal", root)
        size = "unknown" if total is None else format_size(total)
        nodes.append(f"{node}: {size}, {f'cpus {cpus}' if cpus else 'memory only'}")
    return Check.of("NUMA nodes", "; ".join(nodes) or "one (the kernel lists none)")


def _node_details() -> list[Check]:
    details = (
        ("free memory", _numa_sysfs.free_memory()),
        ("node distances", _numa_sysfs.distances()),
        ("memory tiers", _numa_sysfs.tiers()),
        ("access attributes", _numa_sysfs.access_attributes()),
    )
    return [Check.of(topic, text or "not listed by the kernel") for topic, text in details]


def _cpuset() -> Check:
    outside = _numa_sysfs.outside_cpuset()
    if not outside:
        return Check.of("cpuset", "allows all nodes with memory")
    nodes = f"node{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}"
    return Check.of(
        "cpuset",
        f"forbids this process the memory of {nodes}",
        "add the slow tier's node to cpuset.mems of the container's cgroup",
    )


def _transparent_huge_pages() -> Check:
    text = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    mode = re.search(r"\[(\w+)\]", text)
    advice = ""
    if mode is None:
        text = "no transparent huge pages in this kernel"
        advice = (
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE: lookups have more TLB misses without"
        )
    elif mode[1] == "never":
        text = "transparent huge pages are off (never)"
        advice = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
    else:
        size = int(read_text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") or 2 << 20)
        requested = 4 * size
        huge = _huge_bytes(requested, size)
        text = f"transparent, {mode[1]}; {format_size(huge)} of {format_size(requested)} requested"
        if huge < requested // 2:
            advice = (
                "memory is fragmented or the container forbids them; echo 1 | sudo tee"
                " /proc/sys/vm/compact_memory"
            )
    return Check.of("huge pages", text, advice)


def _huge_bytes(requested: int, size: int) -> int:
    """Return the bytes of huge pages that the kernel grants to an madvised mapping."""
    with mmap.mmap(-1, requested + size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        before = _anonymous_huge_bytes()
        for offset in range(0, len(memory), BLOCK):
            memory[offset] = 1
        return max(0, min(_anonymous_huge_bytes() - before, requested))


def _anonymous_huge_bytes() -> int:
    match = re.search(r"AnonHugePages:\s+(\d+) kB", read_text("/proc/self/smaps_rollup") or "")
    return int(match[1]) << 10 if match else 0


def _reserved_huge_pages() -> Check:
    total = read_text("/proc/sys/vm/nr_hugepages")
    return Check.of("reserved huge pages", f"{total or 'none'} (stores use transparent huge pages)")


def _engines() -> list[Check]:
    return [
        Check.of(name, refusal or "works", _engine_advice(name) if refusal else "")
        for name, refusal in _bindings.fetch_engines().items()
    ]


def _engine_advice(name: str) -> str:
    if name != "io_uring":
        return "none needed: reads use the next engine, at a lower queue depth per thread"
    disabled = read_text("/proc/sys/kernel/io_uring_disabled")
    if disabled not in (None, "0"):
        return f"sudo sysctl kernel.io_uring_disabled=0 (now {disabled})"
    return (
        "allow io_uring_setup and io_uring_enter in the container's seccomp profile; reads use"
        " pread now"
    )


def _limits() -> list[Check]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    is_low = files != resource.RLIM_INFINITY and files < 1024
    advice = "ulimit -n 1024, or LimitNOFILE= of the service" if is_low else ""
    return [
        Check.of("open files", _limit(files, str), advice),
        Check.of("locked memory", _limit(locked, format_size)),
    ]


def _limit(value: int, text: Callable[[int], str]) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else f"max {text(value)}"


def _disk(directory: Path) -> list[Check]:
    system = file_system_of(directory)
    usage = psutil.disk_usage(str(directory))
    text = f"{system.kind} at {system.mount_point or '?'} ({system.device or 'no device'})"
    is_low = usage.free < usage.total / 20
    checks = [
        Check.of("slow tier's directory", str(directory.resolve())),
        Check.of(
            "file system",
            text,
            "the file system is DRAM; choose a directory on a disk" if system.in_memory else "",
        ),
        Check.of(
            "disk space",
            f"{format_size(usage.free)} free of {format_size(usage.total)}",
            "less than 5% is free; a table needs rows x (row bytes rounded up to 64)"
            if is_low
            else "",
        ),
    ]
    try:
        with tempfile.TemporaryFile(prefix="tieralloc-doctor-", dir=directory) as probe:
            checks += [_reservation(probe.fileno()), _direct_reads(probe.fileno())]
    except OSError as error:
        text = f"cannot write {format_size(PROBE_BYTES)}: {error.strerror}"
        checks.append(Check.of("probe file", text, "free space, or choose another disk"))
    return checks


def _reservation(descriptor: int) -> Check:
    if can_reserve(descriptor, PROBE_BYTES):
        return Check.of("reserving space", "works (fallocate)")
    return Check.of(
        "reserving space",
        "not supported by this file system (fallocate)",
        "monitor the free space: a full disk shows only as an error of a later write",
    )


def _direct_reads(descriptor: int) -> Check:
    try:
        median = direct_read_us(descriptor)
    except OSError as error:
        return Check.of(
            "direct reads",
            f"not supported (O_DIRECT): {error.strerror}",
            "use ext4 or xfs, which have O_DIRECT: reads use the page cache here, which is DRAM",
        )
    text = f"work (O_DIRECT); a random read of {BLOCK} bytes takes {median:,.0f} µs (depth 1)"
    is_slow = median > _SLOW_READ_US
    return Check.of(
        "direct reads", text, "choose a faster disk; NVMe takes about 100 µs" if is_slow else ""
    )


def _read_speed(directory: Path) -> ReadSpeed | OSError:
    try:
        return measure_reads(directory)
    except OSError as error:
        return error


def _reads_at_depth(speed: ReadSpeed | OSError) -> Check:
    if isinstance(speed, OSError):
        text = f"cannot be measured: {speed.strerror}"
        return Check.of("store's reads", text, "free space, or choose another disk")
    return Check.of(
        "store's reads",
        f"{speed.reads_per_second:,.0f} rows/s by {speed.engine} at depth {speed.depth}, a row per "
        f"page; a read takes {speed.median_us:,.0f} µs (median)",
    )


def _budget(
    directory: Path, rows: int, embedding_dim: int, speed: ReadSpeed | OSError
) -> list[Check]:
    """Propose a budget for a table, and say what the disk can serve with it."""
    size = rows * embedding_dim * 4
    usage, available = psutil.disk_usage(str(directory)), _usable_memory()
    needed = rows * -(-embedding_dim * 4 // 64) * 64
    space = f"{format_size(size)} of float32; the file takes about {format_size(needed)}"
    checks = [
        Check.of(
            "table",
            f"{rows:,} rows of {embedding_dim} elements: {space}"
            + ("; it fits into the available memory" if size <= available else ""),
            "the disk has less free space; choose another one" if needed > usage.free else "",
        )
    ]
    step = 1 << 20
    proposal = max(1, round(_BUDGET_SHARE * rows)) * (embedding_dim * 4 + _ROW_OVERHEAD)
    proposal = max(step, -(-min(proposal, available // 2) // step) * step)
    held = rows_within(proposal, [rows], embedding_dim)
    text = (
        f"fast_bytes={proposal >> 20}MiB holds {held:,} rows ({percent(held / rows, 2)} of the "
        f"table) of {format_size(available)} available; tieralloc replay T --fast-bytes "
        f"{proposal >> 20}MiB shows the miss ratio of a trace"
    )
    advice = "" if held >= _BUDGET_SHARE * rows / 2 else "add memory, or divide the table"
    checks.append(Check.of("budget", text, advice))
    if isinstance(speed, ReadSpeed):
        shares = ", ".join(
            f"{short(speed.reads_per_second / ratio)} at {percent(ratio)}" for ratio in _MISS_RATIOS
        )
        checks.append(Check.of("lookups/s", f"the disk's limit by miss ratio: {shares}"))
    return checks


def _usable_memory() -> int:
    """Return the bytes that this process can still allocate."""
    limit, used = _cgroup_memory()
    available = int(psutil.virtual_memory().available)
    return available if limit is None else min(available, max(0, limit - (used or 0)))


def _packages() -> list[Check]:
    checks = []
    for package, extra, purpose in (
        ("torch", "torch", "torch modules and .pt traces"),
        ("matplotlib", "plot", "plots"),
        ("tqdm", "plot", "progress bars"),
    ):
        try:
            text = f"{package} {metadata.version(package)} ({purpose})"
        except metadata.PackageNotFoundError:
            text = f"not installed; {purpose}: pip install 'tieralloc[{extra}]'"
        checks.append(Check.of(package, text))
    return checks

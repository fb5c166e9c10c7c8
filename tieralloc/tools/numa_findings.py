"""What sysfs tells of NUMA nodes beside their processors, for the doctor."""

from __future__ import annotations

import re
from pathlib import Path

from tieralloc._common.numbers import format_size
from tieralloc.tools.machine import read_text

NODES = Path("/sys/devices/system/node")
_TIERS = Path("/sys/devices/virtual/memory_tiering")
_STATUS = Path("/proc/self/status")


def node_numbers(root: Path = NODES) -> list[int]:
    """Numbers of the nodes there are, in ascending order."""
    return sorted(int(path.name[4:]) for path in root.glob("node[0-9]*"))


def node_field(node: int, field: str, root: Path = NODES) -> int | None:
    """Bytes that a node's meminfo has for a field; None where it does not tell."""
    text = read_text(root / f"node{node}" / "meminfo") or ""
    found = re.search(rf"\b{field}:\s+(\d+) kB", text)
    return int(found[1]) << 10 if found else None


def free_memory(root: Path = NODES) -> str:
    """Free memory of each node."""
    parts = []
    for node in node_numbers(root):
        free = node_field(node, "MemFree", root)
        parts.append(f"{node}: {'unknown' if free is None else format_size(free)}")
    return "; ".join(parts)


def distances(root: Path = NODES) -> str:
    """Distances of each node to all of them, 10 being to itself, as the firmware has them."""
    parts = []
    for node in node_numbers(root):
        parts.append(f"{node}: {read_text(root / f'node{node}' / 'distance') or 'unknown'}")
    return "; ".join(parts)


def tiers(root: Path = _TIERS) -> str:
    """Memory tiers of the kernel, the fastest first, and the nodes in each."""
    found = sorted(root.glob("memory_tier[0-9]*"), key=lambda path: int(path.name[11:]))
    lists = [(path.name[11:], read_text(path / "nodelist")) for path in found]
    return "; ".join(f"tier {tier}: nodes {nodes}" for tier, nodes in lists if nodes)


def access_attributes(root: Path = NODES) -> str:
    """Latency and bandwidth of each node from its nearest processors, as the firmware has them."""
    parts = []
    for node in node_numbers(root):
        place = root / f"node{node}" / "access0" / "initiators"
        latency = read_text(place / "read_latency")
        bandwidth = read_text(place / "read_bandwidth")
        if latency or bandwidth:
            parts.append(f"{node}: read {latency or '?'} ns, {bandwidth or '?'} MB/s")
    return "; ".join(parts)


def outside_cpuset(root: Path = NODES, status: Path = _STATUS) -> list[int]:
    """Nodes with memory that this process's cpuset keeps it away from."""
    allowed = re.search(r"^Mems_allowed_list:\s*(\S*)", read_text(status) or "", re.MULTILINE)
    if allowed is None:
        return []
    within: set[int] = set()
    for part in allowed[1].split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            within.update(range(int(first), int(last or first) + 1))
    return [
        node
        for node in node_numbers(root)
        if node not in within and (node_field(node, "MemTotal", root) or 0) > 0
    ]

"""NUMA nodes in sysfs: free memory, distances, memory tiers, access attributes, cpuset."""

from __future__ import annotations

import re
from pathlib import Path

from tieralloc._common.numbers import format_size
from tieralloc.tools.machine import read_text

NODES = Path("/sys/devices/system/node")
_TIERS = Path("/sys/devices/virtual/memory_tiering")
_STATUS = Path("/proc/self/status")


def node_numbers(root: Path = NODES) -> list[int]:
    """Return the numbers of all nodes, ascending."""
    return sorted(int(path.name[4:]) for path in root.glob("node[0-9]*"))


def node_field(node: int, field: str, root: Path = NODES) -> int | None:
    """Return a field of a node's meminfo in bytes; None if the kernel does not list it."""
    text = read_text(root / f"node{node}" / "meminfo") or ""
    match = re.search(rf"\b{field}:\s+(\d+) kB", text)
    return int(match[1]) << 10 if match else None


def free_memory(root: Path = NODES) -> str:
    """Return the free memory of each node."""
    parts = []
    for node in node_numbers(root):
        free = node_field(node, "MemFree", root)
        parts.append(f"{node}: {'unknown' if free is None else format_size(free)}")
    return "; ".join(parts)


def distances(root: Path = NODES) -> str:
    """Return the firmware's distances from each node to every node; 10 is the node itself."""
    parts = []
    for node in node_numbers(root):
        parts.append(f"{node}: {read_text(root / f'node{node}' / 'distance') or 'unknown'}")
    return "; ".join(parts)


def tiers(root: Path = _TIERS) -> str:
    """Return the kernel's memory tiers and their nodes, the fastest tier first."""
    paths = sorted(root.glob("memory_tier[0-9]*"), key=lambda path: int(path.name[11:]))
    lists = [(path.name[11:], read_text(path / "nodelist")) for path in paths]
    return "; ".join(f"tier {tier}: nodes {nodes}" for tier, nodes in lists if nodes)


def access_attributes(root: Path = NODES) -> str:
    """Return the firmware's read latency and bandwidth of each node from its nearest processors."""
    parts = []
    for node in node_numbers(root):
        initiators = root / f"node{node}" / "access0" / "initiators"
        latency = read_text(initiators / "read_latency")
        bandwidth = read_text(initiators / "read_bandwidth")
        if latency or bandwidth:
            parts.append(f"{node}: read {latency or '?'} ns, {bandwidth or '?'} MB/s")
    return "; ".join(parts)


def outside_cpuset(root: Path = NODES, status: Path = _STATUS) -> list[int]:
    """Return the nodes whose memory this process's cpuset forbids."""
    match = re.search(r"^Mems_allowed_list:\s*(\S*)", read_text(status) or "", re.MULTILINE)
    if match is None:
        return []
    allowed_nodes: set[int] = set()
    for part in match[1].split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            allowed_nodes.update(range(int(first), int(last or first) + 1))
    return [
        node
        for node in node_numbers(root)
        if node not in allowed_nodes and (node_field(node, "MemTotal", root) or 0) > 0
    ]

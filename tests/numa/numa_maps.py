"""The nodes of this process's memory as the kernel reports them, independent of the store."""

import re
from collections import Counter
from pathlib import Path

PAGE = 4096


def pages_by_node(least_pages):
    """Pages per node of bound or preferred mappings that have at least this many pages."""
    found = Counter()
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        policy = line.split()[1]
        if not policy.startswith(("bind:", "prefer:", "prefer (many):")):
            continue
        size = int((re.search(r"kernelpagesize_kB=(\d+)", line) or [0, 4])[1]) << 10
        pages = {int(n): int(count) for n, count in re.findall(r"\bN(\d+)=(\d+)", line)}
        if sum(pages.values()) * size // PAGE >= least_pages:
            found.update({n: count * size // PAGE for n, count in pages.items()})
    return found


def policies():
    """Memory policies of this process's mappings, such as "bind:1"."""
    return [line.split()[1] for line in Path("/proc/self/numa_maps").read_text().splitlines()]

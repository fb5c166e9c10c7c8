"""What a result was measured on, for whoever compares it: no host names, no paths."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tieralloc.tools.disk import file_system_of
from tieralloc.tools.machine import core_count, cpu_model, read_text
from tieralloc.tools.machine import describe as describe_in_words

_PACKAGES = ("numpy", "torch", "fbgemm-gpu-cpu", "lmdb", "rocksdict")


def describe(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe the machine, the disk of `directory` and the versions of what was compared."""
    return {
        "machine": describe_in_words(),
        "architecture": platform.machine(),
        "cores": core_count(),
        "disk": _disk(directory),
        "huge_pages": _selected(read_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in _PACKAGES if version_of(name)},
    }


def slug() -> str:
    """Return a name for result files: processor and cores, in letters that every system takes."""
    words = re.sub(r"[^a-z0-9]+", "-", cpu_model().lower()).strip("-")
    return f"{words}-{core_count()}cores"


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _disk(directory: str | os.PathLike[str]) -> str:
    """Name file system and disk, such as "ext4 on nvme0n1, Samsung SSD 990 PRO"."""
    place = file_system_of(directory)
    device = Path(os.path.realpath(place.device)).name
    for disk in Path("/sys/block").glob("*"):
        # A partition's directory lies within its disk's.
        if device == disk.name or (disk / device).exists():
            words = (f"{place.kind} on {disk.name}", read_text(disk / "device/model"))
            return ", ".join(filter(None, words))
    return place.kind


def _selected(options: str | None) -> str:
    """Return the choice in brackets of a kernel file such as "always [madvise] never"."""
    match = re.search(r"\[(\w+)\]", options or "")
    return match.group(1) if match else "unknown"

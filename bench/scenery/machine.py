"""The machine that a result was measured on: no host names, no paths."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tieralloc._disk import file_system_of
from tieralloc._machine import core_count, cpu_model, read_text
from tieralloc._machine import describe as describe_in_words

_PACKAGES = ("numpy", "torch", "fbgemm-gpu-cpu", "lmdb", "rocksdict")


def describe(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe the machine, the disk of `directory` and the versions of the baselines."""
    huge_pages = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    selected = re.search(r"\[(\w+)\]", huge_pages)  # of "always [madvise] never"
    return {
        "machine": describe_in_words(),
        "architecture": platform.machine(),
        "cores": core_count(),
        "disk": _disk(directory),
        "huge_pages": selected[1] if selected else "unknown",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := version_of(name))},
    }


def slug() -> str:
    """Return a name for result files: processor and cores."""
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
        # The directory of a partition lies within that of its disk.
        if device == disk.name or (disk / device).exists():
            words = (f"{place.kind} on {disk.name}", read_text(disk / "device/model"))
            return ", ".join(filter(None, words))
    return place.kind

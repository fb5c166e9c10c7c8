"""Names of disks and versions of packages: no paths."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tieralloc._disk import file_system_of
from tieralloc._machine import read_text


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def disk_of(directory: str | os.PathLike[str]) -> str:
    """Name file system and disk, such as "ext4 on nvme0n1, Samsung SSD 990 PRO"."""
    place = file_system_of(directory)
    device = Path(os.path.realpath(place.device)).name
    for disk in Path("/sys/block").glob("*"):
        # The directory of a partition lies within that of its disk.
        if device == disk.name or (disk / device).exists():
            words = (f"{place.kind} on {disk.name}", read_text(disk / "device/model"))
            return ", ".join(filter(None, words))
    return place.kind

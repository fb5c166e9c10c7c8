"""The head of a result file: command, machine, commit and packages of the run."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tieralloc.tools import machine as _machine
from tieralloc.tools.disk import file_system_of

_PACKAGES = ("numpy", "torch", "libcachesim", "fbgemm-gpu-cpu", "lmdb", "rocksdict")


def about(command: str, directory: Path | None = None) -> dict[str, Any]:
    """Return the fields that every result file starts with, and the disk of a directory."""
    packages = {name: found for name in _PACKAGES if (found := version_of(name))}
    return {
        "command": command,
        "machine": _machine.describe(),
        "commit": commit(),
        "packages": packages,
        **({} if directory is None else {"disk": disk_of(directory)}),
    }


def commit() -> str:
    """Return the commit of this checkout, with a ``+`` if tracked files differ from it."""
    git = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        shown = subprocess.run(
            git, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return shown.stdout.strip()


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def disk_of(directory: str | os.PathLike[str]) -> str:
    """Name file system and disk, such as "ext4 on nvme0n1, Samsung SSD 990 PRO"."""
    place = file_system_of(directory)
    device = Path(os.path.realpath(place.device)).name
    for disk in Path("/sys/block").glob("*"):
        # The directory of a partition is inside that of its disk.
        if device == disk.name or (disk / device).exists():
            words = (f"{place.kind} on {disk.name}", _machine.read_text(disk / "device/model"))
            return ", ".join(filter(None, words))
    return place.kind

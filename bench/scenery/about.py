"""The head of a result file: command, machine, commit and packages of the run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.scenery.machine import disk_of, version_of
from tieralloc import _machine

_PACKAGES = ("numpy", "torch", "libcachesim", "fbgemm-gpu-cpu", "lmdb", "rocksdict")


def about(command: str, directory: Path | None = None) -> dict[str, Any]:
    """Return the fields that every result file starts with, and the disk of a directory."""
    packages = {name: version for name in _PACKAGES if (version := version_of(name))}
    return {
        "command": command,
        "machine": _machine.describe(),
        "commit": commit(),
        "packages": packages,
        **({} if directory is None else {"disk": disk_of(directory)}),
    }


def commit() -> str:
    """Return the commit of this checkout, with a ``+`` where tracked files differ from it."""
    git = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        shown = subprocess.run(
            git, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return shown.stdout.strip()

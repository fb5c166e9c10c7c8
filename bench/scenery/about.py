"""The head of a result file: command, machine, commit and packages of the run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.scenery.machine import version_of
from tieralloc import _machine

_PACKAGES = ("numpy", "torch", "libcachesim")


def about(command: str) -> dict[str, Any]:
    """Return the fields that every result of policies starts with."""
    packages = {name: version for name in _PACKAGES if (version := version_of(name))}
    return {
        "command": command,
        "machine": _machine.describe(),
        "commit": commit(),
        "packages": packages,
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

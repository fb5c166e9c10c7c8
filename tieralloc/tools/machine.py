"""Description of the machine of a measurement, without its host name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from tieralloc._common.numbers import format_size


def describe() -> str:
    """Return processor, cores, memory and kernel; no host name."""
    return (
        f"{cpu_model()}, {core_count()} cores, "
        f"{format_size(psutil.virtual_memory().total)} of memory, "
        f"{platform.system()} {platform.release()}"
    )


def core_count() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    """Return the processor's name, or the architecture if the kernel lists none (as on Arm)."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def read_text(path: str | os.PathLike[str]) -> str | None:
    """Return the stripped text of a small kernel file; None if it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None

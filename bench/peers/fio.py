"""fio: what the device gives to random reads of 4 KiB."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FioRefusedError(Exception):
    """fio cannot measure here; the text says why."""


def random_reads(path: Path, depth: int, seconds: float, *, in_bursts: bool = False) -> float:
    """Reads a second of 4 KiB at random places of a file, by io_uring with O_DIRECT, one thread.

    Parameters
    ----------
    path : path
        The file.
    depth : int
        Reads under way.
    seconds : float
        How long.
    in_bursts : bool
        Let all of them end before the next are begun, as calls of so many rows do.

    Raises
    ------
    FioRefusedError
        Where there is no fio, or it fails.
    """
    command = _command(path, depth, seconds)
    if in_bursts:
        command += [f"--iodepth_batch={depth}", f"--iodepth_batch_complete_min={depth}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().replace(str(path), path.name)
        raise FioRefusedError(f"fio failed: {reason.splitlines()[-1] if reason else 'silently'}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["iops"])


@contextmanager
def reading(path: Path, depth: int, rate: float, most_seconds: float) -> Iterator[None]:
    """Have a process of its own read at random, at the lowest priority, so many blocks a second."""
    command = [*_command(path, depth, most_seconds), f"--rate_iops={round(rate)}", "--nice=19"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def refusal() -> str | None:
    """Say why there is no fio here; None where there is."""
    if shutil.which("fio") is None:
        return "fio is not installed (Debian and Ubuntu: apt-get install fio)"
    return None


def _command(path: Path, depth: int, seconds: float) -> list[str]:
    refused = refusal()
    if refused is not None:
        raise FioRefusedError(refused)
    return [
        "fio",
        "--name=peer",
        f"--filename={path}",
        "--readonly",
        "--rw=randread",
        "--bs=4k",
        "--ioengine=io_uring",
        "--direct=1",
        f"--iodepth={depth}",
        "--norandommap",
        "--time_based",
        f"--runtime={max(1, round(seconds * 1000))}ms",
        "--output-format=json",
    ]

"""fio: what the device gives to random reads of 4 KiB."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path


class FioRefusedError(Exception):
    """fio cannot measure here; the text says why."""


def random_reads(path: Path, depth: int, seconds: float) -> float:
    """Reads a second of 4 KiB at random places of a file, by io_uring with O_DIRECT, one thread.

    Raises
    ------
    FioRefusedError
        Where there is no fio, or it fails.
    """
    program = shutil.which("fio")
    if program is None:
        raise FioRefusedError("fio is not installed (Debian and Ubuntu: apt-get install fio)")
    command = [
        program,
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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().replace(str(path), path.name)
        raise FioRefusedError(f"fio failed: {reason.splitlines()[-1] if reason else 'silently'}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["iops"])

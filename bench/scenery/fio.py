"""Random reads of a file by fio, the most that a device does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path


class FioFailedError(RuntimeError):
    """fio refused to run."""


def refusal() -> str | None:
    """Return why fio cannot run; None if it can."""
    return None if shutil.which("fio") else "it is not installed: apt-get install fio"


def reads_per_second(path: Path, depth: int, seconds: float) -> float:
    """Return random reads of 4 KiB per second with `depth` in flight, by io_uring, one thread."""
    options = (
        "--name=baseline --readonly --rw=randread --bs=4k --ioengine=io_uring --direct=1"
        " --norandommap --time_based --output-format=json"
    )
    runtime = f"--runtime={max(1, round(seconds * 1000))}ms"
    command = ["fio", *options.split(), f"--filename={path}", f"--iodepth={depth}", runtime]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FioFailedError(f"fio failed: {done.stderr or done.stdout}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["iops"])

"""fio: random reads of 4 KiB by io_uring with O_DIRECT, one thread."""

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
    """Return reads per second with `depth` in flight.

    In bursts, all of them end before the next are issued, as in calls of so many rows.

    Raises
    ------
    FioRefusedError
        Where fio is missing, or fails.
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
def reading(path: Path, depth: int, rate: float, max_seconds: float) -> Iterator[None]:
    """Read so many blocks per second in another process, at the lowest priority."""
    command = [*_command(path, depth, max_seconds), f"--rate_iops={round(rate)}", "--nice=19"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def refusal() -> str | None:
    """Return why there is no fio here; None where there is."""
    if shutil.which("fio") is None:
        return "fio is not installed (Debian and Ubuntu: apt-get install fio)"
    return None


def _command(path: Path, depth: int, seconds: float) -> list[str]:
    reason = refusal()
    if reason is not None:
        raise FioRefusedError(reason)
    options = (
        "--name=baseline --readonly --rw=randread --bs=4k --ioengine=io_uring --direct=1"
        " --norandommap --time_based --output-format=json"
    )
    runtime = f"--runtime={max(1, round(seconds * 1000))}ms"
    return ["fio", *options.split(), f"--filename={path}", f"--iodepth={depth}", runtime]

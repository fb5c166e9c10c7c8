"""Power cuts: crash images from the recorded writes of a disk, each mounted and checked.

A workload runs on a file system (ext4, xfs) on a disk that records writes and flushes. An image is
the disk after a random record, without some of the writes since its last flush: none, all, a random
half, or single pieces of 512 or 4096 bytes. Promises: the file system mounts, the store opens, rows
are at least as new as at the last acknowledged flush (or close), those of acknowledged deltas are
there, no row is a mixture, and an update or a delta is there with all of its rows or none.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .campaign import (
    MissingError,
    end_child,
    enter_private_mounts,
    in_child,
    last_line,
    mounted,
    start_child,
)
from .fuse_disk import FLUSH, RecordingDisk, loop_device
from .model import Progress, judge, make_calls, random_calls, read_store

CALLS = 60
IMAGES_PER_DISK = 40
LIVES = 3
SYNCING = ("create", "flush", "reopen")
CHUNK = 64 << 10
FILE_SYSTEMS = {
    "ext4": (
        64 << 20,
        "mkfs.ext4 -q -F -b 4096 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 -J size=4",
    ),
    "xfs": (320 << 20, "mkfs.xfs -qfK"),
}


def run(campaign):
    """Run in a child, whose mounts end with it."""
    formatted, reasons = format_disks(), []
    for kind, content in list(formatted.items()):
        probe = in_child(lambda: has_file_system(kind, content))  # noqa: B023
        if probe.kind != "returned":
            reasons.append(f"{kind}: {last_line(probe).partition('MissingError: ')[2] or probe}")
            del formatted[kind]
    if not formatted:
        raise MissingError("; ".join(reasons))
    print(f"power: {', '.join(formatted)} {'; '.join(reasons)}", flush=True)
    outcome = in_child(lambda: _run(campaign, formatted), timeout=campaign.seconds + 300)
    if outcome.kind != "returned":
        raise RuntimeError(f"the campaign {outcome}")
    campaign.counts, campaign.failures = outcome.value


def _run(campaign, formatted):
    enter_private_mounts()
    with (
        tempfile.TemporaryDirectory(prefix="torture-") as folder,
        mounted("tmpfs", folder, "tmpfs", "size=1g"),
    ):
        for case in campaign.cases():
            rng = campaign.rng(case)
            kind = list(formatted)[case % len(formatted)]
            _life_of_a_disk(campaign, case, rng, Path(folder), kind, formatted[kind])
    return campaign.counts, campaign.failures


@contextlib.contextmanager
def file_system(disk, folder, kind):
    """Mount a recording disk; yield the folder of its files."""
    served, files = folder / "served", folder / "files"
    served.mkdir(exist_ok=True)
    files.mkdir(exist_ok=True)
    with disk.serve(served) as path, loop_device(path) as device, mounted(device, files, kind):
        yield files


def has_file_system(kind, content):
    """Mount an empty disk in mounts of its own; raise MissingError if this machine cannot."""
    enter_private_mounts()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            with file_system(RecordingDisk(content), Path(folder), kind):
                return True
        except OSError as error:
            raise MissingError(str(error)) from None


def format_disks():
    """Return the content of an empty disk for each file system that this machine can make."""
    disks = {}
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        for kind, (size, command) in FILE_SYSTEMS.items():
            path = Path(folder) / kind
            with open(path, "wb") as file:
                file.truncate(size)
            search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
            if shutil.which(command.split()[0], path=search):
                subprocess.run(
                    [*command.split(), path], check=True, env=os.environ | {"PATH": search}
                )
                disks[kind] = path.read_bytes()
    if not disks:
        raise MissingError("no mkfs.ext4 and no mkfs.xfs")
    return disks


def _life_of_a_disk(campaign, case, rng, folder, kind, content):
    """Cut the power many times; start again from one of the images."""
    calls = random_calls(rng, CALLS * LIVES, max_tables=4, max_rows=300)
    first, floor = 0, {}
    for _ in range(LIVES):
        rest = calls[first : first + CALLS]
        progress = Progress(len(calls))
        disk = RecordingDisk(content)
        seed = int(rng.integers(1 << 31))
        with file_system(disk, folder, kind) as files:
            path = files / "power.tier"
            start = len(disk.records)

            def workload():
                disk.forget_in_child()  # noqa: B023
                make_calls(path, rest, progress, disk.clock, seed)  # noqa: B023

            ended = end_child(start_child(workload), 120)
            end = len(disk.records)
        if ended.kind != "returned":
            campaign.fail("workload failed", case, last_line(ended))
            return
        campaign.counts["block writes"] += end - start
        images, cuts = Images(content, disk.records), _random_cuts(start, end, rest, progress, rng)
        again = int(rng.integers(len(cuts)))
        for number, cut in enumerate(cuts):
            if number and campaign.remaining <= 0 and campaign.only_case is None:
                return
            campaign.report()
            kept = images.write(folder / "image", cut, rng)
            if number == again:
                content = (folder / "image").read_bytes()
            campaign.keep_files(folder, "image")
            after = _read_image(folder / "image", files, kind, path)
            campaign.counts["images"] += 1
            what = f"{kind}, image {number}, cut at write {cut} of {end}, {kept}"
            if after.kind != "returned":
                is_mounted = f"mount {kind}" not in last_line(after)
                failure = "store does not open" if is_mounted else "file system does not mount"
                campaign.fail(failure, case, f"{what}: {last_line(after)}")
                if number == again:
                    return
                continue
            found, errors = after.value
            campaign.counts["rows"] += sum(map(len, found.values()))
            started = (progress.started >= 0) & (progress.started <= cut)
            done = (progress.done >= 0) & (progress.done <= cut)
            synced = [c.number for c in rest if c.kind in ("flush", "reopen") and done[c.number]]
            is_delta = np.array([call.kind == "delta" for call in calls])
            promised = done & (is_delta | (np.arange(len(calls)) <= max(synced, default=-1)))
            broken = list(judge(rest, started, promised, found, floor))
            for failure, text in broken:
                campaign.fail(failure, case, f"{what}: {text} {' '.join(errors[:1])}")
            if number == again:
                if broken:
                    return
                first = int(np.flatnonzero(started)[-1]) + 1 if started.any() else first
                next_floor = found
        floor = next_floor


def _read_image(image, files, kind, path):
    def read():
        with mounted(device, files, kind):
            return read_store(path)

    with loop_device(image) as device:
        return in_child(read)


class Images:
    """Builds images for ascending cuts: durable writes, and some of the later ones."""

    def __init__(self, formatted, records):
        self._records = records
        self._durable = bytearray(formatted)
        self._used = _used_chunks(formatted)  # the others are zero
        self._flushed = 0

    def write(self, path, cut, rng):
        """Write the image of a cut as a sparse file; return a text about its unflushed writes."""
        flushes = (n for n in range(cut - 1, self._flushed - 1, -1) if self._records[n][0] == FLUSH)
        if (flush := next(flushes, None)) is not None:
            for offset, data in self._writes(flush):
                self._durable[offset : offset + len(data)] = data
                self._used.update(range(offset // CHUNK, (offset + len(data) - 1) // CHUNK + 1))
            self._flushed = flush + 1
        share = float(rng.choice([0, 0.5, 0.9, 1]))
        unit = int(rng.choice([512, 4096, 1 << 30]))
        pieces = [  # ext4 needs its superblock, in block 0, whole
            (offset + at, data[at : at + unit])
            for offset, data in self._writes(cut)
            for at in range(0, len(data), unit if offset >= 4096 else len(data))
        ]
        kept = np.flatnonzero(rng.random(len(pieces)) < share)
        path.unlink(missing_ok=True)
        with open(path, "wb", buffering=0) as file:
            file.truncate(len(self._durable))
            view = memoryview(self._durable)
            for chunk in self._used:
                os.pwrite(file.fileno(), view[chunk * CHUNK : (chunk + 1) * CHUNK], chunk * CHUNK)
            for piece in kept:
                os.pwrite(file.fileno(), pieces[piece][1], pieces[piece][0])
        size = "whole" if unit > 4096 else f"of {unit} bytes"
        return f"{len(kept)} of {len(pieces)} unflushed writes {size} kept"

    def _writes(self, end):
        """Return the writes from the last flush to record `end`."""
        return [record for record in self._records[self._flushed : end] if record[0] != FLUSH]


def _used_chunks(content):
    zeros, view = bytes(CHUNK), memoryview(content)
    chunks = range(len(content) // CHUNK)
    return {chunk for chunk in chunks if view[chunk * CHUNK : (chunk + 1) * CHUNK] != zeros}


def _random_cuts(first, last, calls, progress, rng):
    """Return cuts in order: half of them anywhere, half within a random create, flush or reopen."""
    cuts = list(rng.integers(first, last + 1, IMAGES_PER_DISK))
    syncing = [c.number for c in calls if c.kind in SYNCING and progress.done[c.number] >= 0]
    for number in rng.choice(syncing, IMAGES_PER_DISK // 2 if syncing else 0):
        cuts.append(rng.integers(progress.started[number], progress.done[number] + 1))
    return sorted(int(cut) for cut in cuts[IMAGES_PER_DISK // 2 :])

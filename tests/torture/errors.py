"""I/O errors: failed, short and slow reads, writes and syncs, and full disks.

A library (fault_shim.c) makes calls of libc on the store's files fail; a small tmpfs gets full.
Promises: only OSError; a flush during which a write or sync fails raises; a later flush raises or
makes everything durable; a failed update or delta leaves all rows as they were, a failed load each
row old or new; live lookups are correct at any time.
"""

import contextlib
import errno
import mmap
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tieralloc as ta

from .campaign import MissingError, enter_private_mounts, in_child, last_line, mounted, new_folder
from .model import judge, make_call, random_calls, read_store, read_tables

CALLS = 24
WRITE, SYNC, READ, GROW = 1, 2, 4, 8  # as in fault_shim.c
SHORT, SLOW = -1, -2
FOREVER = 1 << 40
WEIGHTS = {"create": 0.1, "load": 0.1, "update": 0.3, "delta": 0.1, "lookup": 0.1, "flush": 0.3}
_CONTROL = struct.Struct("<5q232s")


def run(campaign):
    """Run in a process that has the library."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingError("no C compiler (cc)")
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        library, control = Path(folder) / "fault_shim.so", Path(folder) / "control"
        source = Path(__file__).with_name("fault_shim.c")
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
        )
        control.write_bytes(bytes(_CONTROL.size))
        state = Path(folder) / "campaign"
        state.write_bytes(pickle.dumps(campaign))
        done = subprocess.run(
            [sys.executable, "-m", __name__, state],
            env=os.environ | {"LD_PRELOAD": str(library), "TORTURE_FAULTS": str(control)},
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the campaign ended with {done.returncode}")
        campaign.counts, campaign.failures = pickle.loads(state.read_bytes())


class Control:
    """The library's control: `arm` makes calls fail, `hits` counts failed calls."""

    def __init__(self):
        with open(os.environ["TORTURE_FAULTS"], "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _CONTROL.size)

    def watch(self, path):
        self._memory[:] = _CONTROL.pack(0, 0, 0, 0, 0, os.fsencode(path))

    def arm(self, calls, action, after, times):
        self._memory[:32] = struct.pack("<4q", calls, action, after, times)

    def disarm(self):
        self.arm(0, 0, 0, 0)

    @property
    def hits(self):
        return struct.unpack("<q", self._memory[32:40])[0]


@dataclass
class Fault:
    """Something that makes calls fail from `arm` to `disarm`."""

    text: str
    arm: Callable
    disarm: Callable
    hits: Callable = lambda: 1
    must_raise: bool = False  # a flush that is hit
    reads_fail: bool = False
    reserve: bool = True


def _run(campaign):
    control = Control()
    try:
        enter_private_mounts()
        can_mount = True
    except MissingError as error:
        print(f"errors: no full disks: {error}")
        can_mount = False
    for case in campaign.cases():
        rng = campaign.rng(case)
        with new_folder(rng) as folder:
            path = Path(folder) / "errors.tier"
            if not can_mount or rng.random() < 0.7:
                _test(campaign, case, rng, path, _failing_calls(path, rng, control))
            else:
                with mounted("tmpfs", folder, "tmpfs", "size=40m"):
                    _test(campaign, case, rng, path, _full_disk(Path(folder), rng))


def _failing_calls(path, rng, control):
    names = {WRITE: "write", SYNC: "sync", READ: "read", GROW: "grow"}
    calls = int(rng.choice([WRITE, SYNC, WRITE | SYNC, READ, GROW, WRITE | GROW]))
    action = int(rng.choice([errno.EIO, errno.EIO, errno.ENOSPC, SHORT, SLOW]))
    times, after = int(rng.choice([1, 1, 3, FOREVER])), int(rng.geometric(0.2)) - 1
    control.watch(path)
    return Fault(
        f"{' or '.join(name for bit, name in names.items() if calls & bit)}: "
        f"{ {SHORT: 'short', SLOW: 'slow'}.get(action) or errno.errorcode[action] }, "
        f"{'for ever' if times == FOREVER else f'{times} times'} after {after}",
        lambda: control.arm(calls, action, after, times),
        control.disarm,
        lambda: control.hits,
        must_raise=action > 0 and calls in (WRITE, SYNC, WRITE | SYNC),
        reads_fail=calls == READ,
    )


def _full_disk(folder, rng):
    """Return a fault that fills a disk but for some bytes."""
    ballast, left = folder / "ballast", int(rng.integers(1, 60)) * 4096

    def fill():
        with open(ballast, "wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        os.truncate(ballast, os.stat(ballast).st_size - left)

    text = f"disk full but for {left} bytes"
    return Fault(text, fill, lambda: ballast.unlink(missing_ok=True), reserve=False)


def _test(campaign, case, rng, path, fault):
    """Make calls in a child, and read the store after its end in another."""
    calls = random_calls(rng, CALLS, WEIGHTS, max_tables=3, max_rows=200)
    outcome = in_child(lambda: _faulted_calls(path, rng, calls, fault))
    if outcome.kind != "returned":
        campaign.fail("workload failed", case, f"{fault.text}: {last_line(outcome)}")
        return
    broken, started, done, synced = outcome.value
    campaign.counts["faults"] += fault.hits()
    campaign.keep_files(path.parent, f"{path.name}*")
    if not broken:
        after = in_child(lambda: read_store(path))
        if after.kind != "returned":
            broken = [("store does not open", last_line(after))]
        else:
            campaign.counts["rows"] += sum(map(len, after.value[0].values()))
            is_delta = np.array([call.kind == "delta" for call in calls])
            promised = done & (is_delta | (np.arange(CALLS) <= synced))
            broken = judge(calls, started, promised, after.value[0])
    for kind, text in broken:
        campaign.fail(kind, case, f"{fault.text}: {text}")


def _faulted_calls(path, rng, calls, fault):
    """Make calls, some while the fault is armed; at last, close the store or leave it as it is.

    Returns broken promises, the calls that may have had an effect, the calls that returned, and the
    last call that a flush has made durable.
    """
    first, last = np.sort(rng.choice(np.arange(4, CALLS), 2, replace=False))
    started, done = np.zeros(CALLS, dtype=bool), np.zeros(CALLS, dtype=bool)
    failed_deltas = np.zeros(CALLS, dtype=bool)
    synced, broken = -1, []
    engine = "pread" if fault.reads_fail else str(rng.choice(["pread", "auto"]))
    file = ta.File(path, mode="w", engine=engine, reserve=fault.reserve)
    store = ta.TieredStore(slow=file, fast_rows=int(rng.integers(16, 400)))

    def succeeds(kind, function):
        before = fault.hits()
        try:
            function()
        except OSError:
            return False
        except Exception as error:
            broken.append(("undocumented error", f"{kind}: {type(error).__name__}: {error}"))
            return False
        if kind == "flush" and fault.must_raise and fault.hits() > before:
            broken.append(("flush silent", f"{fault.hits() - before} faults"))
        return True

    for call in calls:
        if call.number == first:
            fault.arm()
        if call.number == last:
            fault.disarm()
        if len(call.rows) and call.name not in store.tables:
            continue
        done[call.number] = succeeds(call.kind, lambda: make_call(store, call))  # noqa: B023
        started[call.number] = done[call.number] or call.kind == "load"
        failed_deltas[call.number] = call.kind == "delta" and not done[call.number]
        if call.kind == "flush" and done[call.number]:
            synced = call.number
        if rng.random() < 0.3 and not broken:
            for kind, text in judge(calls, started, done, read_tables(store)[0]):
                if not (
                    fault.reads_fail and call.number < last and kind.startswith("row unreadable")
                ):
                    broken.append((kind, f"live after call {call.number}, {call.kind}: {text}"))
    if rng.random() < 0.7:
        if succeeds("close", store.close) or succeeds("flush", store.flush):
            synced = CALLS
        else:
            broken.append(("close fails", "the store neither closes nor flushes without faults"))
    else:  # the withdrawal of a delta whose sync failed may not be written
        started |= failed_deltas
    return broken, started, done, synced


if __name__ == "__main__":
    state = Path(sys.argv[1])
    campaign = pickle.loads(state.read_bytes())
    _run(campaign)
    state.write_bytes(pickle.dumps((campaign.counts, campaign.failures)))

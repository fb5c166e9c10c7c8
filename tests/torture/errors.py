"""I/O errors: failed, short and slow reads, writes and syncs, and full disks.

A library (fault_shim.c) makes calls of libc on the store's files fail; a small tmpfs gets full.
Promises: only OSError; a flush during which a write or sync fails raises; a later flush raises or
makes everything durable; a failed update leaves all rows as they were, a failed load leaves each
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
from pathlib import Path

import numpy as np

import tieralloc as ta

from .campaign import MissingError, enter_private_mounts, in_child, last_line, mounted, new_folder
from .model import judge, make_call, random_calls, read_store, read_tables

CALLS = 24
WRITE, SYNC, READ, GROW = 1, 2, 4, 8  # as in fault_shim.c
SHORT, SLOW = -1, -2
FOREVER = 1 << 40
WEIGHTS = {"create": 0.1, "load": 0.1, "update": 0.4, "lookup": 0.1, "flush": 0.3}
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


class Faults:
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


def _run(campaign):
    faults = Faults()
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
            if can_mount and rng.random() < 0.3:
                outcome = in_child(lambda: _fill_disk(path, rng))  # noqa: B023
            else:
                outcome = in_child(lambda: _inject(path, rng, faults))  # noqa: B023
        if outcome.kind != "returned":
            campaign.fail("workload failed", case, last_line(outcome))
            continue
        what, hits, rows, broken = outcome.value
        campaign.counts["faults"] += hits
        campaign.counts["rows"] += rows
        for kind, text in broken:
            campaign.fail(kind, case, f"{what}: {text}")


def _inject(path, rng, faults):
    """Arm a fault of a random kind at a random call."""
    calls = int(rng.choice([WRITE, SYNC, WRITE | SYNC, READ, GROW, WRITE | GROW]))
    action = int(rng.choice([errno.EIO, errno.EIO, errno.ENOSPC, SHORT, SLOW]))
    if calls == READ and action == errno.ENOSPC:
        action = errno.EIO
    times = int(rng.choice([1, 1, 3, FOREVER]))
    after = int(rng.geometric(0.2)) - 1
    names = {WRITE: "write", SYNC: "sync", READ: "read", GROW: "grow"}
    failing = " or ".join(name for bit, name in names.items() if calls & bit)
    actions = {SHORT: "short", SLOW: "slow"}
    many = "for ever" if times == FOREVER else f"{times} times"
    what = f"{failing} {actions.get(action) or errno.errorcode[action]} {many} after {after}"
    faults.watch(path)
    return what, *_faulted_calls(
        path,
        rng,
        lambda: faults.arm(calls, action, after, times),
        faults.disarm,
        hits=lambda: faults.hits,
        must_raise=action > 0 and calls in (WRITE, SYNC, WRITE | SYNC),
        reads_fail=calls == READ,
    )


def _fill_disk(path, rng):
    """Fill a small disk at a random call, but for some bytes; free it later."""
    folder = path.parent / "disk"
    folder.mkdir()
    ballast, left = folder / "ballast", int(rng.integers(1, 60)) * 4096
    with mounted("tmpfs", folder, "tmpfs", "size=40m"):

        def fill():
            with open(ballast, "wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            os.truncate(ballast, os.stat(ballast).st_size - left)

        result = _faulted_calls(
            folder / path.name, rng, fill, lambda: ballast.unlink(missing_ok=True), reserve=False
        )
    return f"disk full but for {left} bytes", *result


def _faulted_calls(
    path, rng, arm, disarm, hits=lambda: 1, must_raise=False, reads_fail=False, reserve=True
):
    """Make calls, armed for some of them; return (hits, rows, broken promises)."""
    calls = random_calls(rng, CALLS, WEIGHTS, max_tables=3, max_rows=200)
    first, last = np.sort(rng.choice(np.arange(4, len(calls)), 2, replace=False))
    started, done = np.zeros(CALLS, dtype=bool), np.zeros(CALLS, dtype=bool)
    synced = -1  # last call that a flush has made durable
    broken, rows = [], 0
    engine = str(rng.choice(["pread", "auto"])) if not reads_fail else "pread"
    file = ta.File(path, mode="w", engine=engine, reserve=reserve)
    store = ta.TieredStore(slow=file, fast_rows=int(rng.integers(16, 400)))

    def attempt(call, function):
        """Call a function; whether it succeeded. OSError is documented, others are failures."""
        before = hits()
        try:
            function()
        except OSError:
            return False
        except Exception as error:
            broken.append(("undocumented error", f"{call}: {type(error).__name__}: {error}"))
            return False
        if call == "flush" and must_raise and hits() > before:
            broken.append(("flush silent", f"{hits() - before} faults"))
        return True

    def judge_now(found, promised, when):
        for kind, text in judge(calls, started, promised, found):
            if not (reads_fail and kind == "row unreadable"):
                broken.append((kind, f"{when}: {text}"))

    for position, call in enumerate(calls):
        if position == first:
            arm()
        if position == last:
            disarm()
            reads_fail = False
        if len(call.rows) and call.name not in store.tables:
            continue
        ok = attempt(call.kind, lambda: make_call(store, call))  # noqa: B023
        started[call.number] = ok or call.kind == "load"
        done[call.number] = ok
        if call.kind == "flush" and ok:
            synced = call.number
        if rng.random() < 0.3 and not broken:
            found, _ = read_tables(store)
            rows += sum(map(len, found.values()))
            judge_now(found, done, f"live after call {call.number}, {call.kind}")
    disarm()
    if attempt("close", store.close) or attempt("last flush", store.flush):
        synced = CALLS
    count = hits()
    if synced < CALLS:
        broken.append(("close fails", "the store neither flushes nor closes without faults"))
    if not broken:
        found, _ = read_store(path, "a" if synced < CALLS else "r")
        rows += sum(map(len, found.values()))
        judge_now(found, done & (np.arange(CALLS) <= synced), "after reopen")
    return count, rows, broken


if __name__ == "__main__":
    state = Path(sys.argv[1])
    campaign = pickle.loads(state.read_bytes())
    _run(campaign)
    state.write_bytes(pickle.dumps((campaign.counts, campaign.failures)))

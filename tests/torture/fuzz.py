"""Fuzzed files: stores (superblocks, pages, logs), traces and policy directories.

A case changes some bytes of a valid file, then opens and reads all of it. Promises: only documented
errors, no crash, no gigabytes of memory, and no wrong value served. Cases run in children, in
batches; each case is repeated by its number.
"""

import hashlib
import importlib.util
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import tieralloc as ta
from tieralloc.policy.directory import (
    Capacity,
    FeatureSpec,
    Manifest,
    TrainingTrace,
    read_policy,
    write_policy,
)

from .campaign import end_child, in_child, start_child
from .model import Call, judge, make_call, open_store, read_tables

MIB = 1 << 20
WRONG = ("row torn", "row of no call", "wrong table")  # a changed file may lose rows
BATCH = 500
BATCH_SECONDS = 120
MEMORY = 1 << 29  # bytes that a case may take
DOCUMENTED = (ValueError, OSError, MemoryError)
INTERESTING = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 48,
    (1 << 63) - 1,
    1 << 63,
)


def run(campaign):
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        targets = _targets(Path(folder))
        first = 0 if campaign.only_case is None else campaign.only_case
        end = first + (BATCH if campaign.only_case is None else 1)
        while True:
            first = _run_batch(campaign, targets, Path(folder), first, end)
            if first == end:
                campaign.report()
                if campaign.only_case is not None or campaign.remaining <= 0:
                    return
                end += BATCH


def _run_batch(campaign, targets, folder, first, end):
    """Run cases in a child; return the next case: `end`, or the one after a crash."""
    current = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)
    current[0] = first
    seconds = min(campaign.remaining, 20) if campaign.only_case is None else BATCH_SECONDS

    def batch():
        counts, failures = Counter(), []
        warnings.simplefilter("ignore")  # of torch, about invalid files
        sys.unraisablehook = lambda *_: None  # a store that cannot be closed says so twice
        limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (16 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        deadline = time.monotonic() + seconds
        for case in range(first, end):
            current[0] = case
            rng = campaign.rng(case)
            name = "store" if rng.random() < 0.5 else str(rng.choice(list(targets)))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.alarm(20)  # a case that hangs dies
            result, problems = targets[name].run(folder / "case", rng)
            signal.alarm(0)
            taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            if taken > MEMORY:
                problems.append(("memory", f"{taken >> 20} MiB"))
            counts["cases"] += 1
            counts[f"{name} {result}"] += 1
            failures += [(kind, case, f"{name}: {text}") for kind, text in problems]
            if time.monotonic() > deadline:
                return counts, failures, end
        return counts, failures, end

    outcome = end_child(start_child(batch), BATCH_SECONDS + 30)
    if outcome.kind == "returned":
        counts, failures, after = outcome.value
        campaign.counts += counts
        for failure in failures:
            campaign.fail(*failure)
        return after
    case = int(current[0])
    campaign.counts["cases"] += case + 1 - first
    if outcome.kind == "raised":
        raise RuntimeError(f"case {case}: {outcome.value}")
    campaign.fail("hang" if outcome.value == "SIGALRM" else "crash", case, str(outcome))
    return case + 1


def mutate(data, used, rng):
    """Return the bytes after random changes, most of them of early bytes of `used`."""
    data = bytearray(data)

    def place(size=1):
        at = int(rng.integers(1 << 40))
        if len(used) and rng.random() < 0.8:
            at = int(used[int(len(used) * rng.random() ** 3)])
        return at % max(1, len(data) - size + 1)

    for _ in range(int(rng.geometric(0.6))):
        kind = rng.choice(["bit", "byte", "number", "zeros", "splice", "cut", "insert"])
        size = int(rng.choice([1, 8, 64, 512, 4096]))
        at = place(size)
        if not data or kind == "insert":
            data[at:at] = rng.bytes(min(size, 64))
        elif kind == "bit":
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == "byte":
            data[at] = int(rng.integers(256))
        elif kind == "number":
            width = int(rng.choice([4, 8]))
            number = struct.pack("<Q", int(rng.choice(INTERESTING)))
            at = at // width * width
            data[at : at + width] = number[:width]
        elif kind == "zeros":
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif kind == "splice":
            source = place(size)
            data[at : at + size] = data[source : source + size]
        elif rng.random() < 0.3:
            del data[at:]
        else:
            del data[at : at + size]
    return bytes(data)


class Target:
    """Valid files. `check` opens one folder of them, and returns a result and problems."""

    def __init__(self, files):
        self.files = files
        self.used = {  # bytes that are not zero
            name: np.flatnonzero(np.frombuffer(data, dtype=np.uint8))
            for name, data in files.items()
        }

    def run(self, folder, rng):
        """Change a file, write all files into the folder and check them."""
        changed = str(rng.choice(list(self.files)))
        files = self.files | {changed: mutate(self.files[changed], self.used[changed], rng)}
        self.repair(files, changed, rng)
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        for name, data in files.items():
            (folder / name).write_bytes(data.rstrip(b"\0"))
            os.truncate(folder / name, len(data))
        try:
            return self.check(folder, rng)
        except DOCUMENTED:
            return "refused", []
        except Exception as error:
            return "refused", [("undocumented error", f"{type(error).__name__}: {error}")]

    def repair(self, files, changed, rng):
        """Repair checksums, so that a reader gets beyond them."""


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc_entry(byte):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [crc_entry(byte) for byte in range(256)]


def guarded_parts(data):
    """Return (begin, end, place of the CRC-32C) of superblocks, pages, orders and log frames."""
    parts = []
    for at in (0, MIB):
        if data[at : at + 12] in (b"TIERALOC\2\0\0\0", b"TIERALOC\3\0\0\0"):
            count = struct.unpack_from("<I", data, at + 12)[0]
            parts.append((at, at + 112 + 256 * count, at + 64))
    for at in range(2 * MIB, len(data), 4096):
        parts += [(at, at + size - 4, at + size - 4) for size in (4096, 8192)]
        if data[at : at + 8] == b"TIERORDR":
            rows, pages = struct.unpack_from("<QQ", data, at + 16)
            parts.append((at, at + 40 + 4 * (rows + pages), at + 36))
    at = 0
    while data[at : at + 4] == b"TLOG":
        size = struct.unpack_from("<Q", data, at + 16)[0]
        parts.append((at + 8, at + size, at + 4))
        at += size
    return [part for part in parts if part[1] < len(data) + 1 and is_guarded(data, part)]


def is_guarded(data, part):
    stored = data[part[2] : part[2] + 4]
    return any(stored) and stored == checksum_of(data, part)


def checksum_of(data, part):
    begin, end, place = part
    covered = bytearray(data[begin:end])
    if begin <= place < end:
        covered[place - begin : place - begin + 4] = bytes(4)
    return struct.pack("<I", crc32c(covered))


class StoreTarget(Target):
    """A store killed after updates, so that there is a log if the store has one.

    Half of the changed files get valid checksums; then any value may be served.
    """

    sizes = ((40, 80), (20, 1100), (300, 16))

    def __init__(self, folder):
        create = [Call(n, "create", n, size=size) for n, size in enumerate(self.sizes)]
        writes = [
            Call(3 + n, kind, n % 3, np.arange(0, self.sizes[n % 3][0], step), self.sizes[n % 3])
            for n, (kind, step) in enumerate([("load", 1)] * 3 + [("update", 3)] * 6)
        ]
        self.calls = [*create, *writes]
        path = folder / "base" / "fuzz.tier"
        path.parent.mkdir()

        def make():
            store = open_store(path, np.random.default_rng(0))
            for call in self.calls:
                make_call(store, call)
                if call.number == 8:
                    store.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        in_child(make)
        super().__init__({file.name: file.read_bytes() for file in path.parent.iterdir()})
        self.parts = {name: guarded_parts(data) for name, data in self.files.items()}
        superblocks = [part for part in self.parts[path.name] if part[0] in (0, MIB)]
        if len(superblocks) != 2:
            raise RuntimeError(f"superblocks with checksums: expected 2, got {len(superblocks)}")
        self.repaired = False

    def repair(self, files, changed, rng):
        self.repaired = rng.random() < 0.5
        before, after = self.files[changed], bytearray(files[changed])
        for part in self.parts[changed] if self.repaired and len(after) == len(before) else ():
            begin, end, place = part
            if after[begin:end] != before[begin:end]:
                after[place : place + 4] = checksum_of(after, part)
        files[changed] = bytes(after)

    def check(self, folder, rng):
        mode, engine = str(rng.choice(["r", "r", "r+", "a"])), str(rng.choice(["pread", "auto"]))
        file = ta.File(folder / "fuzz.tier", mode=mode, engine=engine)
        with ta.TieredStore(slow=file, fast_rows=64) as store:
            for table in store.tables.values():
                size = (table.num_embeddings, table.embedding_dim)
                if not self.repaired and (size not in self.sizes or table.dtype != "float32"):
                    return "accepted", [("wrong table served", repr(table))]
            found, errors = read_tables(store)
        started = np.ones(len(self.calls), dtype=bool)
        broken = [
            (f"{kind} served", f"mode {mode}: {text}")
            for kind, text in judge(self.calls, started, ~started, found)
            if kind in WRONG and not self.repaired
        ]
        return "row errors" if errors else "accepted", broken


class TraceTarget(Target):
    def __init__(self, folder, suffix):
        path = folder / f"trace{suffix}"
        ta.trace.write(ta.trace.generate(num_tables=2, num_samples=64), path)
        super().__init__({path.name: path.read_bytes()})

    def check(self, folder, rng):
        ta.trace.read(folder / next(iter(self.files)))
        return "accepted", []


class PolicyTarget(Target):
    """A policy directory; half of the changed files get a valid SHA-256 in the manifest."""

    def __init__(self, folder):
        manifest = Manifest(
            policy="recmg",
            features=FeatureSpec("gaps", 2, 7),
            tables=[("item", 100)],
            trace=TrainingTrace("day", "ab" * 32, 5000),
            capacities=[Capacity(0.05, 6)],
            seed=3,
            settings={"chunk": 15},
            metrics={"miss_ratio": 0.25},
        )
        arrays = {"order": np.arange(50), "names": np.array(["a", "b"])}
        write_policy(folder / "policy", manifest, {"caching-5": b"one" * 99}, arrays)
        super().__init__({file.name: file.read_bytes() for file in (folder / "policy").iterdir()})

    def repair(self, files, changed, rng):
        if rng.random() < 0.5:
            sums = [hashlib.sha256(of[changed]).hexdigest().encode() for of in (self.files, files)]
            files["manifest.json"] = files["manifest.json"].replace(*sums)

    def check(self, folder, rng):
        read_policy(folder)
        return "accepted", []


def _targets(folder):
    targets = {"store": StoreTarget(folder), "policy": PolicyTarget(folder)}
    suffixes = [".npz", ".oraclegeneral"]
    if importlib.util.find_spec("torch"):
        suffixes += [".pt", ".pt.gz"]
    return targets | {suffix[1:]: TraceTarget(folder, suffix) for suffix in suffixes}

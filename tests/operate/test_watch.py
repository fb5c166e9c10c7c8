"""Log lines of changes of state: a learned policy, and write-backs, without a call of `stats`."""

import errno
import logging
import os
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from support import numbered_rows, store_of

import tieralloc as ta
from tieralloc._bindings import ExternalModel
from tieralloc.policy.planned import PlannedPolicy

MIB = 1 << 20
ROWS = 3000


class Events(logging.Handler):
    """The events of the log, in order."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        if hasattr(record, "tieralloc"):
            self.records.append(record)

    def wait(self, event, seconds=30):
        """Level and fields of the next record of an event; records before it are dropped."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for position, record in enumerate(self.records):
                if record.tieralloc["event"] == event:
                    del self.records[: position + 1]
                    return record.levelname, record.tieralloc
            time.sleep(0.01)
        raise AssertionError(f"{event}: not logged, but {[r.tieralloc for r in self.records]}")


@pytest.fixture
def events():
    logger = logging.getLogger("tieralloc")
    handler, level = Events(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class Policy:
    """A policy whose function keeps all rows, costs CPU time, and fails when it is asked to."""

    name = "scripted"
    rows_may_grow = True
    directory = SimpleNamespace(check_tables=lambda *tables, **options: None)

    def __init__(self):
        self.fails = False

    def model_for(self, fast_rows, accesses=None):
        return ExternalModel(self.decide, chunk=1000, eviction_speed=4)

    def decide(self, rows):
        if self.fails:
            raise ValueError("no more ideas")
        until = time.thread_time() + 0.001
        while time.thread_time() < until:
            pass
        return np.ones(len(rows), bool), []

    def planned(self, auto_pause):
        return PlannedPolicy("scripted:x", self, "lru", None, auto_pause, 0.02)


def start(store, policy, auto_pause):
    planned = policy.planned(auto_pause)
    planned.start(store._core, store._table_sizes())
    with store._policy._lock:
        store._policy.name, store._policy.planned = planned.name, planned


def serve_until(store, state):
    """Serve hits until the policy has a state, which then lasts."""
    table, rows = store.table("item"), np.arange(1000)
    deadline = time.monotonic() + 60
    while store._core.policy_stats()["state"] != state:
        assert time.monotonic() < deadline, state
        for _ in range(20):
            table.lookup(rows)


def test_pause_resumption_and_failure_of_a_policy_are_logged(make_store, events):
    store = make_store(fast_rows=ROWS)
    path = store.stats().slow_tier.path
    store.create_table("item", ROWS, 4)
    policy = Policy()
    start(store, policy, auto_pause=True)
    common = {"store": path, "policy": "scripted:x"}
    assert events.wait("policy_started") == ("INFO", {"event": "policy_started", **common})
    serve_until(store, "paused")  # all rows are hits, so it saves nothing
    level, fields = events.wait("policy_paused")
    assert (level, fields["fallback"]) == ("INFO", "lru")
    assert "of CPU time" in fields["reason"]
    serve_until(store, "running")
    assert events.wait("policy_resumed") == ("INFO", {"event": "policy_resumed", **common})
    policy.fails = True
    serve_until(store, "failed")
    level, fields = events.wait("policy_failed")
    assert (level, fields["reason"]) == ("WARNING", "ValueError: no more ideas")
    store.use_policy("sieve")
    assert events.wait("policy_replaced")[1] == {"event": "policy_replaced", **common}
    assert store.stats().policy_stats is None
    assert not events.records


def test_state_is_logged_once_whoever_polls(make_store, events):
    store = make_store(fast_rows=ROWS)
    store.create_table("item", ROWS, 4)
    start(store, Policy(), auto_pause=False)
    for _ in range(50):
        store.stats()
        store._watch.poll()
    assert [record.tieralloc["event"] for record in events.records] == ["policy_started"]
    store.close()
    store._watch.poll()
    assert len(events.records) == 1


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk that is small enough to be filled")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_failing_and_recovered_write_backs_are_logged(small_disk, events):
    path = str(small_disk / "a.tier")
    store = store_of(path, reserve=False, fast_rows=64)
    table = store.create_table("item", 100_000, 16)
    table.update(np.arange(50_000, 50_300), numbered_rows(300, 16))
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        for step in (MIB, 4096):
            while True:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, step)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        break
                    raise
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        store.close()
    level, fields = events.wait("write_back_failing")
    assert (level, fields["store"]) == ("WARNING", path)
    assert os.strerror(errno.ENOSPC) in fields["reason"]
    (small_disk / "filler").unlink()
    table.update([0], numbered_rows(1, 16))
    store._core.flush()
    deadline = time.monotonic() + 30
    while store._core.write_back_error and time.monotonic() < deadline:
        time.sleep(0.01)
    assert events.wait("write_back_recovered") == (
        *("INFO", {"event": "write_back_recovered", "store": path}),
    )
    store.close()


def test_store_in_memory_is_watched_too(events):
    from tieralloc.tools.emulated import EmulatedMemory

    with ta.TieredStore(slow=EmulatedMemory(5), fast_rows=ROWS) as store:
        store.create_table("item", ROWS, 4)
        start(store, Policy(), auto_pause=False)
        assert events.wait("policy_started")[1]["store"] == "emulated:5ns"

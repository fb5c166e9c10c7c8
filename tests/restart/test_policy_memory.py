"""What a learned policy has learnt from accesses outlives the store."""

import json
import logging
import re
import time
import zipfile

import pytest

pytest.importorskip("torch")

from tieralloc.policies.registry import trainer

import tieralloc as ta
from tieralloc._bindings import HeldPolicy
from tieralloc.trace import generate

FAST_ROWS = 200
TRACE = generate(num_samples=2000, num_tables=2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "recmg"
    trainer("recmg")(TRACE, folder, [0.1], epochs=1, seed=1)
    return folder


def open_store(path, directory, mode="r+", fast_rows=FAST_ROWS, policy=None, **options):
    if policy is None:
        policy = ta.LearnedPolicy(directory, name="recmg-caching", auto_pause=False)
    slow = ta.File(path, mode=mode, **options)
    store = ta.TieredStore(slow=slow, fast_rows=fast_rows, policy=policy)
    if mode == "w":
        for name, rows in zip(TRACE.table_names, TRACE.num_embeddings.tolist(), strict=True):
            store.create_table(name, rows, 4)
    assert store._versions.current.wait(30)
    return store


def serve(store):
    """Serve the trace; return when the policy has observed it."""
    before = store.stats()
    for batch in TRACE.batches(32):
        store.embedding_bag(*batch)
    served = store.stats().lookups - before.lookups
    deadline = time.monotonic() + 60
    while observed(store.stats()) < observed(before) + served:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def observed(stats):
    return stats.policy_stats.accesses_observed + stats.lookup.accesses_dropped


def memory_of(store):
    """Return the bytes of what the policy has learnt."""
    parts = []
    with HeldPolicy(store._core) as policy:
        assert all(policy.keys())
        for tier in range(len(policy.keys())):
            before = len(parts)
            policy.save(tier, lambda part: parts.append(bytes(part)))
            assert sum(map(len, parts[before:])) == policy.nbytes(tier)
    return parts


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_reopened_policy_goes_on(tmp_path, directory, mode):
    with open_store(tmp_path / "a.tier", directory, "w") as store:
        fresh = memory_of(store)
        serve(store)
        learnt = memory_of(store)
        assert learnt != fresh
    with open_store(tmp_path / "a.tier", directory, mode) as store:
        assert memory_of(store) == learnt
        serve(store)


def test_switched_policy_goes_on(tmp_path, directory):
    open_store(tmp_path / "b.tier", directory, "w").close()
    with open_store(tmp_path / "a.tier", directory, "w") as store:
        serve(store)
        learnt = memory_of(store)
        store.switch(tmp_path / "b.tier")
        assert memory_of(store) == learnt
        serve(store)


def test_policy_is_saved_at_intervals(tmp_path, directory):
    with open_store(tmp_path / "a.tier", directory, "w", warm_restart_interval=0.01) as store:
        serve(store)
        saved = tmp_path / "a.tier.policy"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        deadline = time.monotonic() + 30
        while not saved.exists() or saved.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def damage(path, kind):
    """Damage a file of a policy, or make it one of another kind."""
    content = bytearray(path.read_bytes())
    if kind == "bytes":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "no archive":
        path.write_bytes(b"no archive")
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        about = json.loads(members["about.json"])
        if kind == "version":
            about["version"] = 2
        elif kind == "key":
            about["keys"] = ["other"] * len(about["keys"])
        elif kind == "size":
            members["0"] += b"."
        members["about.json"] = json.dumps(about).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bytes", "invalid file of a policy: .*(checksum|CRC)"),
        ("no archive", "invalid file of a policy: File is not a zip file"),
        ("version", "version: expected 1, got 2"),
        ("key", "no tier has a policy of this model, these tables and this size"),
        ("size", r"tier 0: expected \d+ bytes, got \d+"),
    ],
)
def test_memory_that_does_not_fit_is_ignored_and_named(tmp_path, directory, caplog, kind, reason):
    with open_store(tmp_path / "a.tier", directory, "w") as store:
        fresh = memory_of(store)
        serve(store)
    damage(tmp_path / "a.tier.policy", kind)
    caplog.set_level(logging.WARNING, "tieralloc")
    with open_store(tmp_path / "a.tier", directory) as store:
        assert memory_of(store) == fresh
    fields = caplog.records[0].tieralloc
    assert (fields["event"], fields["file"]) == (
        "warm_restart_ignored",
        str(tmp_path / "a.tier.policy"),
    )
    assert re.search(reason, fields["reason"])


def test_memory_of_another_size_is_ignored(tmp_path, directory, caplog):
    with open_store(tmp_path / "a.tier", directory, "w") as store:
        serve(store)
    with caplog.at_level(logging.WARNING, "tieralloc"):
        open_store(tmp_path / "a.tier", directory, fast_rows=FAST_ROWS + 1).close()
    assert [record.tieralloc["event"] for record in caplog.records] == ["warm_restart_ignored"]


def test_simple_policy_removes_the_file(tmp_path, directory):
    with open_store(tmp_path / "a.tier", directory, "w") as store:
        serve(store)
    assert (tmp_path / "a.tier.policy").exists()
    open_store(tmp_path / "a.tier", directory, policy="lru").close()
    assert not (tmp_path / "a.tier.policy").exists()


def test_held_policy_of_a_closed_store_is_refused(tmp_path, directory):
    store = open_store(tmp_path / "a.tier", directory, "w")
    store.close()
    with pytest.raises(ValueError, match="closed"), HeldPolicy(store._core):
        pass

"""Creation of stores and tables: options, budgets, names, shapes and errors."""

import contextlib
import errno
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import DTYPES, POLICIES, new_store, path_of, run_python

import tieralloc as ta

OPTIONS = {
    "no budget": (
        {"fast_rows": None},
        ValueError,
        "fast_rows: expected one of them, got None and None",
    ),
    "two budgets": ({"fast_bytes": 1 << 20}, ValueError, "expected one of them, got 1048576 and 8"),
    "fast_rows 0": ({"fast_rows": 0}, ValueError, "fast_rows: expected 1 to 9223372036854775807"),
    "fast_rows 2**31": (
        {"fast_rows": 1 << 31},
        ValueError,
        "fast_rows: too large; expected at most",
    ),
    "fast_rows 2**63": ({"fast_rows": 1 << 63}, ValueError, ", got 9223372036854775808"),
    "fast_rows float": ({"fast_rows": 1.5}, TypeError, "fast_rows: expected int, got float"),
    "policy": ({"policy": "fifo"}, ValueError, "policy: unknown; expected one of lru, lfu, clock"),
    "policy None": ({"policy": None}, TypeError, "policy: expected a name, NAME:DIR or a Learned"),
    "bounds": (
        {"bounds_check_mode": "no"},
        ValueError,
        "expected one of 'fatal', 'warning', 'default', got 'no'",
    ),
    "mode": ({"mode": "rw"}, ValueError, "mode: expected one of 'r', 'r+', 'a', 'w', got 'rw'"),
}
BYTES = {
    "too small": (16383, ValueError, "expected at least 16384, got 16383"),
    "zero": (0, ValueError, "fast_bytes: expected at least 1 byte, got 0"),
    "no size": ("64 MeB", ValueError, "fast_bytes: expected bytes, or a size as"),
    "no number": (1.5, TypeError, "fast_bytes: expected int or str, got float"),
    "of a cluster": ("1000TiB", MemoryError, "available, got 1099511627776000"),
    "of a planet": (1 << 70, MemoryError, "fast_bytes: expected below 2**63 bytes, got 118059"),
}


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS.values(), ids=OPTIONS)
def test_store_invalid_options_raise_and_leave_file(make_store, options, error, message):
    options = {"fast_rows": 8} | options
    path = make_store.new_path()
    with pytest.raises(error, match=re.escape(message)):
        ta.TieredStore(path, **options)
    assert not path.exists()
    make_store(path).close()
    before = path.read_bytes()
    for mode in ("w", "a", "r+", "r"):
        with pytest.raises(error, match=re.escape(message)):
            ta.TieredStore(path, **{"mode": mode, **options})
        assert path.read_bytes() == before


@pytest.mark.parametrize(("size", "error", "message"), BYTES.values(), ids=BYTES)
def test_store_invalid_budget_raises_and_leaves_no_file(folder, size, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ta.TieredStore(folder / "new.tier", fast_bytes=size)
    assert not any(folder.iterdir())


def run_with_mounts(mounts, code):
    """Run code in a new mount namespace, after shell commands that mount there."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    run = run_python(
        code,
        before=["unshare", "--mount", "sh", "-c", f'{{ {mounts}; }} || exit 77; exec "$@"', "sh"],
    )
    if run.returncode in (1, 77) and "Traceback" not in run.stderr:
        pytest.skip(f"no mounts of its own here: {run.stderr}")
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize(
    "file", ["memory.max", "memory/memory.limit_in_bytes"], ids=["cgroup 2", "cgroup 1"]
)
def test_store_budget_beyond_container_raises(folder, file):
    with open("/proc/self/cgroup") as groups:
        wanted = ":memory:" if "/" in file else "0::"
        if wanted not in groups.read():
            pytest.skip(f"/proc/self/cgroup names no group of {wanted}")
    printed = run_with_mounts(
        f"""mount --make-rprivate / && mount -t tmpfs tmpfs /sys/fs/cgroup &&
        mkdir -p /sys/fs/cgroup/memory && echo {100 << 20} > /sys/fs/cgroup/{file}""",
        f"""
        import tieralloc as ta
        try:
            ta.TieredStore({str(folder / "new.tier")!r}, fast_bytes="200MiB")
        except MemoryError as error:
            print(error)
        with ta.TieredStore({str(folder / "new.tier")!r}, fast_bytes="50MiB"):
            print("made")
        """,
    )
    assert printed == [
        "fast tier: not enough memory; expected at most the 104857600 bytes that the machine has "
        "available, got 209715200",
        "made",
    ]


def test_create_table_reuses_memory_of_the_store(folder):
    """The machine reports 300 MiB available; then 100, as if the store had taken 200."""
    meminfo = folder / "meminfo"
    printed = run_with_mounts(
        f"""mount --make-rprivate / && echo "MemAvailable: {300 << 10} kB" > {meminfo} &&
        mount --bind {meminfo} /proc/meminfo""",
        f"""
        import tieralloc as ta
        def available(mib):
            with open({str(meminfo)!r}, "w") as file:
                file.write(f"MemAvailable: {{mib << 10}} kB\\n")
        file = ta.File({str(folder / "new.tier")!r}, reserve=False)
        store = ta.TieredStore(slow=file, fast_bytes="200MiB")
        store.create_table("item", 1_000_000, 64).lookup([1])
        available(100)
        store.create_table("user", 1_000_000, 64).lookup([1])
        available(1)
        store.tables["user"].lookup([2])
        store.create_table("again", 1_000_000, 64).lookup([1])
        print("served")
        store.close()
        try:
            ta.TieredStore({str(folder / "new.tier")!r}, mode="r+", fast_rows=1_000_000)
        except MemoryError as error:
            print(error)
        """,
    )
    assert printed[0] == "served"
    assert "expected at most the 1048576 bytes" in printed[1]


@pytest.mark.parametrize("path", ["a\0b", b"a\0b"])
def test_store_path_with_nul_byte_raises(folder, path, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match="NUL"):
        ta.TieredStore(path, fast_rows=8)
    assert not any(folder.iterdir())


@pytest.mark.parametrize("engine", ["io_uring", "pread"])
def test_store_without_threads_raises_and_leaves_no_file(folder, engine):
    if refusal := ta._bindings.fetch_engines()[engine]:
        pytest.skip(f"{engine}: {refusal}")
    run = run_python(
        """
        import resource, sys
        import tieralloc as ta
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20),) * 2)
        try:
            file = ta.File(sys.argv[1], engine=sys.argv[2], prefetch_threads=32)
            ta.TieredStore(slow=file, fast_rows=8)
        except OSError as error:
            print(error.errno, error)
        """,
        folder / "new.tier",
        engine,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{errno.EAGAIN} [Errno {errno.EAGAIN}] cannot start a thread: ")
    assert not any(folder.iterdir())


NAMES = {
    "empty": ("", ValueError, "name: expected 1 to 191 bytes without NUL, got ''"),
    "long": ("x" * 192, ValueError, "expected 1 to 191 bytes without NUL"),
    "long in UTF-8": ("é" * 96, ValueError, "expected 1 to 191 bytes without NUL"),
    "NUL": ("a\0b", ValueError, "without NUL, got 'a' and a NUL byte"),
    "taken": ("item", ValueError, "table 'item' exists already"),
    "None": (None, TypeError, "name"),
    "number": (3, TypeError, "name"),
}


@pytest.mark.parametrize(("name", "error", "message"), NAMES.values(), ids=NAMES)
def test_create_table_invalid_name_raises(make_store, name, error, message):
    store = make_store()
    store.create_table("item", 10, 4)
    with pytest.raises(error, match=message):
        store.create_table(name, 10, 4)
    assert list(store.tables) == ["item"]


@pytest.mark.parametrize("name", ["x" * 191, "é" * 95, "with / and \n", "日本語"])
def test_create_table_unusual_name_is_kept(make_store, name):
    store = make_store()
    path = path_of(store)
    store.create_table(name, 10, 4)
    store.close()
    assert list(make_store.open(path).tables) == [name]


SHAPES = {
    "no rows": ((0, 4), {}, ValueError, "num_embeddings: expected 1 to 281474976710656, got 0"),
    "negative": ((-1, 4), {}, ValueError, "num_embeddings: expected 1 to 281474976710656, got -1"),
    "float rows": ((10.0, 4), {}, TypeError, "num_embeddings: expected int, got float"),
    "no dim": ((10, 0), {}, ValueError, "embedding_dim: expected 1 to 1048576, got 0"),
    "wide": ((10, 1 << 40), {}, ValueError, "embedding_dim: expected 1 to 1048576, got 10995"),
    "dtype": ((10, 4), {"dtype": "int2"}, ValueError, "dtype: expected one of 'float32'"),
    "float": ((10, 4), {"dtype": float}, ValueError, "_128', got 'float'"),
    "None": ((10, 4), {"dtype": None}, ValueError, "_128', got 'None'"),
    "big-endian": ((10, 4), {"dtype": np.dtype(">f4")}, ValueError, "_128', got '>f4'"),
}


@pytest.mark.parametrize(("shape", "options", "error", "message"), SHAPES.values(), ids=SHAPES)
def test_create_table_invalid_shape_raises(make_store, shape, options, error, message):
    store = make_store()
    with pytest.raises(error, match=re.escape(message)):
        store.create_table("item", *shape, **options)
    assert not store.tables


@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize(
    ("rows", "dim"), [(1 << 48, 1 << 18), (1 << 48, 1 << 20), ((1 << 48) - 1, 1 << 16)]
)
def test_create_table_beyond_address_space_raises(make_store, rows, dim, reserve):
    store = make_store(reserve=reserve)
    size = os.stat(path_of(store)).st_size
    with pytest.raises(ValueError, match=r"table 'vast': expected at most 2\*\*62 bytes, got "):
        store.create_table("vast", rows, dim)
    assert not store.tables
    assert os.stat(path_of(store)).st_size == size


def test_stats_have_fast_rows_before_first_lookup(make_store):
    store = make_store(fast_rows=8)
    assert store.stats().fast_rows == 0
    store.create_table("item", 100, 4)
    stats = store.stats()
    assert (stats.fast_rows, stats.fast_tier.resident_rows) == (8, 0)
    assert stats.dram.vector_bytes >= 8 * 64
    store.create_table("user", 100, 400)
    assert store.stats().fast_rows == 8


TABLES = st.lists(
    st.tuples(
        st.integers(1, 200_000) | st.integers(1, 50),
        st.sampled_from([1, 16, 17, 64, 100, 1000]),
        st.sampled_from(DTYPES),
    ),
    min_size=1,
    max_size=6,
)


@given(tables=TABLES, budget=st.integers(16_384, 4 << 20), policy=st.sampled_from(POLICIES))
def test_fast_bytes_bound_all_memory(tables, budget, policy):
    with new_store(fast_bytes=budget, policy=policy, reserve=False) as store:
        created = []
        for n, shape in enumerate(tables):
            try:
                created.append(store.create_table(f"t{n}", *shape))
            except ValueError as error:
                # Another row size, and no budget for a row of it.
                assert "fast_bytes: too small for the tables" in str(error)  # noqa: PT017
                assert f"t{n}" not in store.tables
        stats = store.stats()
        dram = stats.dram
        assert dram.vector_bytes + dram.index_bytes + dram.metadata_bytes <= budget
        row_bytes = {-(-t.embedding_dim * itemsize(t.dtype) // 64) * 64 for t in created}
        assert stats.fast_rows >= len(row_bytes)
        assert stats.fast_rows <= sum(len(table) for table in created)
        for table in created:  # each is served within the budget
            rows = np.arange(min(len(table), 300))
            assert not table.lookup(rows).any()
        assert store.stats().fast_tier.resident_rows <= stats.fast_rows


def itemsize(dtype):
    return {"float32": 4, "float64": 8}.get(dtype, 2)


@given(tables=TABLES, rows=st.integers(1, 5000), policy=st.sampled_from(POLICIES))
def test_fast_rows_are_all_distributed(tables, rows, policy):
    with new_store(fast_rows=rows, policy=policy, reserve=False) as store:
        created = []
        for n, shape in enumerate(tables):
            try:
                created.append(store.create_table(f"t{n}", *shape))
            except ValueError as error:
                assert "fast_rows: too small for the tables" in str(error)  # noqa: PT017
        assert store.stats().fast_rows == min(rows, sum(map(len, created)))


def test_create_table_beyond_budget_changes_nothing(make_store):
    store = make_store(fast_rows=1)
    table = store.create_table("item", 10, 4)
    table.update([3], [[7.0] * 4])
    size = os.stat(path_of(store)).st_size
    with pytest.raises(
        ValueError,
        match=r"fast_rows: too small for the tables with rows of 1600 bytes; .* got 0 of 1",
    ):
        store.create_table("wide", 100, 400)
    assert os.stat(path_of(store)).st_size == size
    assert list(store.tables) == ["item"]
    assert (table.lookup([3]) == 7).all()


def test_store_open_needs_one_row_of_each_size(make_store):
    store = make_store(fast_rows=8)
    path = path_of(store)
    store.create_table("narrow", 10, 4)
    store.create_table("wide", 10, 400)
    store.close()
    with pytest.raises(ValueError, match="fast_rows: too small for the tables"):
        make_store.open(path, fast_rows=1)
    make_store.open(path, fast_rows=2)


@settings(max_examples=50)
@given(
    policy=st.sampled_from(POLICIES),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["lookup", "bag", "update", "prefetch", "pin", "unpin", "flush"]),
            st.lists(st.integers(0, 99), max_size=30),
        ),
        max_size=30,
    ),
)
def test_stats_any_calls_are_consistent(policy, calls):
    with new_store(fast_rows=10, policy=policy) as store:
        table = store.create_table("item", 100, 4)
        lookups = calls_served = updated = 0
        for name, rows in calls:
            if name == "lookup":
                table.lookup(rows)
            elif name == "bag":
                table.embedding_bag(rows, [0] if rows else [])
            elif name == "update":
                table.update(rows, np.zeros((len(rows), 4), np.float32))
                updated += len(rows)
            elif name == "flush":
                store.flush()
            else:
                with contextlib.suppress(ValueError):  # too many pins
                    getattr(table, name)(rows)
            calls_served += name in ("lookup", "bag")
            lookups += len(rows) * (name in ("lookup", "bag"))
        stats = store.stats()
        assert (stats.calls, stats.lookups, stats.updates.updated_rows) == (
            calls_served,
            lookups,
            updated,
        )
        assert stats.hits + stats.on_demand_fetches == lookups
        assert stats.miss_ratio == (stats.on_demand_fetches / lookups if lookups else 0)
        assert stats.fast_tier.pinned_rows <= 9
        assert stats.fast_tier.resident_rows <= stats.fast_rows == 10
        assert stats.lookup.shared_fetches <= stats.on_demand_fetches
        assert stats.fast_tier.bypassed <= stats.on_demand_fetches + stats.prefetches_issued
        dram = stats.dram.to_dict()
        assert dram.pop("huge_page_bytes") <= stats.dram.vector_bytes
        assert dram.pop("total_bytes") == sum(dram.values())
        assert stats.latency.call_hit.count + stats.latency.call_on_demand.count == calls_served
        for latency in stats.latency.to_dict().values():
            percentiles = [latency[f"{name}_ns"] for name in ("p50", "p90", "p99", "p999", "max")]
            assert percentiles == sorted(percentiles)
        store.flush()
        assert store.stats().updates.dirty_rows <= updated

        # Earlier prefetches still run.
        background = {"fast_tier.resident_rows", "fast_tier.bypassed", "updates.write_backs"}
        background |= {
            "evictions",
            "prefetches_issued",
            "prefetches_useless",
            "prefetch_device_reads",
        }
        same = {"fast_rows", "policy", "lookup.kernels"}
        same |= {"fast_tier.resident_rows", "fast_tier.pinned_rows", "updates.dirty_rows"}
        ignored = background if any(name == "prefetch" for name, _ in calls) else set()
        before = flattened(store.stats().to_dict())
        store.reset_stats()
        after = flattened(store.stats().to_dict())
        for name in after.keys() - ignored:
            if name in same or name.startswith(("slow_tier.", "fast_tier.index")) or is_size(name):
                assert after[name] == before[name], name
            elif not name.startswith("dram."):
                assert not after[name], name


def is_size(name):
    return name.startswith("tables.") and name.split(".")[-1] in {
        *("rows", "row_bytes", "bytes", "is_resident"),
    }


def flattened(statistics, prefix=""):
    """Return nested statistics as one dict, with names joined by dots."""
    flat = {}
    for name, value in statistics.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = any(value) if isinstance(value, list) else value
    return flat


def test_fast_tier_of_32_mib_uses_huge_pages(make_store):
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        if "[never]" in file.read():
            pytest.skip("transparent huge pages are switched off")
    store = make_store(fast_bytes="32MiB")
    table = store.create_table("item", 200_000, 64)
    table.lookup(np.arange(100_000))
    assert store.stats().dram.huge_page_bytes >= 2 << 20


def test_index_is_direct_for_large_fast_tier_else_hash(make_store):
    for rows, kind in ((900, "direct"), (20, "hash")):
        store = make_store(fast_rows=rows)
        store.create_table("item", 1000, 4)
        assert store.stats().fast_tier.index == kind

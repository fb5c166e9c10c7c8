"""The engines of a file: each serves the same rows, and stats name it."""

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bypasses_page_cache, new_store, numbered_rows, path_of, run_python

import tieralloc as ta

ENGINES = ta._bindings.fetch_engines()

# Makes the kernel refuse a system call to the calling process: io_uring_setup(2) is 425 everywhere,
# io_uring_enter(2) is 426.
REFUSE_IO_URING = """
import ctypes, errno, struct, sys
def refuse_io_uring(number):
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | errno.EPERM),
             (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        sys.exit("cannot filter system calls here")
    return code
"""


@pytest.fixture(params=list(ENGINES))
def engine(request):
    if ENGINES[request.param]:
        pytest.skip(ENGINES[request.param])
    return request.param


@pytest.mark.parametrize("direct", [True, False])
def test_engine_serves_rows_and_updates(make_store, folder, engine, direct):
    store = make_store(fast_rows=50, engine=engine, direct=direct)
    path = path_of(store)
    table = store.create_table("item", 5000, 20)
    values = numbered_rows(5000, 20)
    table.load(values)
    order = np.random.default_rng(0).permutation(5000)
    np.testing.assert_array_equal(table.lookup(order), values[order])
    table.update(order[:300], values[order[300:600]])
    store.close()
    store = make_store.open(path, fast_rows=50, engine=engine, direct=direct)
    expected = values[order]
    expected[:300] = values[order[300:600]]
    np.testing.assert_array_equal(store.table("item").lookup(order), expected)
    bypasses = direct and engine != "mmap" and bypasses_page_cache(folder)
    name = f"{engine} ({'O_DIRECT' if bypasses else 'buffered'})"
    assert store.stats().slow_tier.engine == name
    if bypasses:
        assert store.stats().dram.page_cache_bytes <= 2 << 20  # at most the header


@given(
    engine=st.sampled_from([name for name, refusal in ENGINES.items() if not refusal]),
    depth=st.sampled_from([1, 2, 3, 64, 4096]),
    dim=st.sampled_from([1, 16, 1000, 20_000]),
    seed=st.integers(0, 1000),
)
def test_engine_any_row_size_and_depth_serves_rows(engine, depth, dim, seed):
    with new_store(fast_rows=8, engine=engine, queue_depth=depth) as store:
        rows = 200 if dim < 1000 else 30
        table = store.create_table("item", rows, dim)
        values = numbered_rows(rows, dim)
        table.load(values)
        order = np.random.default_rng(seed).integers(0, rows, 100)
        np.testing.assert_array_equal(table.lookup(order), values[order])


def test_engine_auto_selects_first_available(make_store):
    first = next(name for name, refusal in ENGINES.items() if not refusal)
    assert make_store().stats().slow_tier.engine.startswith(first)


@pytest.mark.parametrize(
    ("number", "refusal"),
    [
        (425, "io_uring is refused here: Operation not permitted"),
        (426, "io_uring cannot read a file here: Operation not permitted"),
    ],
    ids=["io_uring_setup", "io_uring_enter"],
)
def test_engine_auto_without_io_uring_selects_pread(folder, number, refusal):
    if ENGINES["io_uring"]:
        pytest.skip(ENGINES["io_uring"])
    run = run_python(
        REFUSE_IO_URING
        + """
import os
import tieralloc as ta
path, number, refusal = sys.argv[1:]
kept = refuse_io_uring(int(number))
assert ta._bindings.fetch_engines()["io_uring"] == refusal
try:
    ta.TieredStore(slow=ta.File(path, engine="io_uring"), fast_rows=8)
except PermissionError as error:
    assert error.filename == path and refusal in str(error), error
    assert "'auto' selects one" in str(error), error
    print(error.errno)
assert not os.path.exists(path)
store = ta.TieredStore(path, fast_rows=8)
assert not store.create_table("item", 100, 4).lookup([3, 90]).any()
print(store.stats().slow_tier.engine.split()[0])
""",
        folder / "new.tier",
        number,
        refusal,
    )
    if "cannot filter" in run.stderr:
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(errno.EPERM), "pread"]


@pytest.mark.skipif(bool(ENGINES["io_uring"]), reason=ENGINES["io_uring"])
def test_lookup_without_descriptors_for_rings_still_reads(folder):
    """Each concurrent call takes an io_uring instance, and that a file descriptor."""
    run = run_python(
        """
        import os, resource, sys
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        import tieralloc as ta
        store = ta.TieredStore(slow=ta.File(sys.argv[1], engine="io_uring"), fast_rows=8)
        table = store.create_table("item", 20_000, 4)
        table.load(np.arange(80_000, dtype=np.float32).reshape(-1, 4))
        calls = [np.random.default_rng(seed).integers(0, 20_000, 5000) for seed in range(40)]
        free = os.open("/", os.O_RDONLY)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))

        def look_up(rows):
            return (table.lookup(rows)[:, 0] == 4 * rows).all()

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(look_up, calls))
        """,
        folder / "new.tier",
    )
    assert run.returncode == 0, run.stderr

"""Stores whose slow tier is memory: arguments, figures, and a kernel that refuses."""

import json

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta
from tieralloc.tiers import parse_cpus, parse_slow

NODE = next(n["id"] for n in ta._bindings.numa_nodes() if n["bytes"] and n["allowed"])
SLOW = [ta.NumaNode(NODE), ta.NumaNode(NODE, mode="prefer"), ta.EmulatedMemory(20)]


@pytest.fixture(params=SLOW, ids=str)
def slow(request):
    return request.param


def filled(store, rows=100, dim=8):
    table = store.create_table("item", rows, dim)
    table.load(numbered_rows(rows, dim))
    return table


def test_rows_come_back_with_and_without_a_fast_tier(slow):
    for fast_rows, admission in ((0, "auto"), (10, "never"), (10, "always"), (10, "auto")):
        with ta.TieredStore(slow=slow, fast_rows=fast_rows, admission=admission) as store:
            table = filled(store)
            for _ in range(3):
                np.testing.assert_array_equal(table.lookup(np.arange(100)), numbered_rows(100, 8))
            stats = store.stats()
            assert stats.lookups == 300 == stats.hits + stats.on_demand_fetches
            if fast_rows == 0 or admission == "never":
                assert stats.hits == stats.fast_tier.resident_rows == stats.evictions == 0
            if admission == "always":
                assert stats.fast_tier.resident_rows == 10


def test_stats_say_what_the_slow_tier_is(slow):
    with ta.TieredStore(slow=slow, fast_rows=10, admission="always") as store:
        filled(store).lookup([1, 2, 3])
        stats = store.stats()
    tier, promotion = stats.slow_tier, stats.promotion
    emulated = isinstance(slow, ta.EmulatedMemory)
    assert tier.is_emulated is emulated
    assert tier.kind == ("emulated" if emulated else "numa")
    assert tier.bytes >= 100 * 64
    if emulated:
        assert (tier.extra_ns, tier.overlap) == (20, 1)
        assert "+20 ns a cache line" in tier.engine
        assert tier.placement is None
        assert promotion.slow_line_ns > promotion.fast_line_ns
    else:
        assert tier.path == f"node {NODE}"
        assert tier.placement.mode == slow.mode
    assert promotion.rule == "always"
    assert promotion.is_active is True
    assert promotion.copy_ns > 0
    assert stats.dram.page_cache_bytes == 0
    json.dumps(stats.to_dict())


def test_a_file_has_neither_promotion_nor_placement(make_store):
    stats = make_store().stats()
    assert stats.promotion is None
    assert stats.fast_tier.placement is None
    assert stats.slow_tier.is_emulated is False
    assert stats.slow_tier.placement is None
    assert stats.background_cpus == ()


def test_there_is_nothing_to_open(slow):
    with pytest.raises(ValueError, match="ends with its store: there is nothing to open"):
        ta.TieredStore.open(slow, fast_rows=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "expected a path or slow=, one of them"),
        ({"path": "file", "slow": ta.NumaNode(NODE)}, "expected a path or slow=, one of them"),
        ({"slow": ta.NumaNode(4000)}, r"node 4000 does not exist; nodes .*: \d+ \("),
        ({"slow": ta.NumaNode(NODE), "fast_node": 4000}, "node 4000 does not exist"),
        ({"slow": ta.NumaNode(NODE), "fast_node": -1}, "fast_node is -1"),
        ({"slow": ta.NumaNode(NODE), "cpus": [4000]}, "cpus has 4000, expected processors"),
        ({"slow": ta.NumaNode(NODE), "cpus": "1-"}, "cpus is '1-', expected"),
        ({"slow": ta.NumaNode(NODE), "cpus": []}, r"cpus is \[\], expected"),
        ({"slow": ta.NumaNode(NODE), "admission": "some"}, "admission is 'some', expected"),
        ({"slow": ta.NumaNode(NODE), "fast_rows": -1}, "fast_rows is -1"),
        ({"path": "file", "admission": "never"}, "admission goes with a slow tier in memory"),
        ({"path": "file", "fast_rows": 0}, "fast_rows is 0, expected 1"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        ta.TieredStore(**{"fast_rows": 4, **options})
    assert not list(tmp_path.iterdir())


def test_what_is_no_slow_tier_is_refused():
    with pytest.raises(TypeError, match="slow is 'numa:0', expected a NumaNode"):
        ta.TieredStore(slow="numa:0", fast_rows=1)
    for make, told in (
        (lambda: ta.NumaNode(-1), "node is -1"),
        (lambda: ta.NumaNode(0, mode="maybe"), "mode is 'maybe'"),
        (lambda: ta.EmulatedMemory(0), "extra_ns is 0"),
        (lambda: ta.EmulatedMemory(float("nan")), "extra_ns is nan"),
        (lambda: ta.EmulatedMemory(1, overlap=0), "overlap is 0"),
    ):
        with pytest.raises(ValueError, match=told):
            make()


@pytest.mark.parametrize("slow", [*SLOW, ta.NumaNode(12, mode="prefer"), ta.EmulatedMemory(1.5, 8)])
def test_a_slow_tier_reads_back_as_it_is_written(slow):
    assert parse_slow(str(slow)) == slow


@pytest.mark.parametrize("text", ["numa", "numa:x", "numa:-1", "emulated:", "disk", "numa:1:maybe"])
def test_words_that_are_no_slow_tier_are_named(text):
    with pytest.raises(ValueError, match=f"slow tier '{text}' is unknown, expected file, numa:"):
        parse_slow(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", [0]), ("0-2,8", [0, 1, 2, 8]), ([3, 1, 3], [1, 3]), (None, [])]
)
def test_processors_are_read_as_the_kernel_lists_them(text, cpus):
    assert parse_cpus(text) == cpus


def test_more_than_there_is_is_refused_and_leaves_the_store_as_it_was(slow):
    with ta.TieredStore(slow=slow, fast_rows=4, admission="always") as store:
        table = filled(store)
        table.update([5], np.full((1, 8), 9, np.float32))
        with pytest.raises(MemoryError, match="rows of table 'large' would take 64000000000000"):
            store.create_table("large", 10**12, 16)
        assert list(store.tables) == ["item"]
        assert table.lookup([5])[0, 0] == 9


def test_rows_end_with_the_store(slow):
    store = ta.TieredStore(slow=slow, fast_rows=4)
    table = filled(store)
    table.update([1], np.zeros((1, 8), np.float32))
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        table.lookup([1])


# mbind, move_pages and get_mempolicy answer EPERM, as under a container's seccomp profile.
REFUSING = """
    import ctypes
    import platform
    import struct
    import sys

    numbers = {"x86_64": (237, 279, 239), "aarch64": (235, 239, 236)}[platform.machine()]
    refuse, allow = 0x00050000 | 1, 0x7FFF0000
    code = [(0x20, 0, 0, 0)]
    for i, number in enumerate(numbers):
        code.append((0x15, len(numbers) - i, 0, number))
    code += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    filters = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(filters)
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    import tieralloc as ta
    import numpy as np
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        sys.exit(77)
"""


def run_refused(code):
    done = run_python(REFUSING + code, NODE)
    if done.returncode == 77:
        pytest.skip("this kernel has no seccomp filters")
    assert done.returncode == 0, done.stderr


def test_a_kernel_that_refuses_to_bind_is_an_error():
    run_refused("""
    try:
        ta.TieredStore(slow=ta.NumaNode(int(sys.argv[1])), fast_rows=4)
    except OSError as error:
        assert error.errno == 1, error
        assert "refuses to bind memory to node" in str(error), error
        assert "strict=False" in str(error), error
    else:
        raise AssertionError("not refused")
    """)


def test_a_kernel_that_refuses_to_bind_may_be_put_up_with():
    run_refused("""
    slow = ta.NumaNode(int(sys.argv[1]))
    with ta.TieredStore(slow=slow, fast_rows=4, fast_node=slow.node, strict=False) as store:
        table = store.create_table("item", 100, 8)
        table.load(np.ones((100, 8), np.float32))
        assert (table.lookup([1, 99]) == 1).all()
        stats = store.stats()
        for placement in (stats.slow_tier.placement, stats.fast_tier.placement):
            assert placement.mode == "unbound", placement
            assert "mbind" in placement.refused, placement
            assert placement.pages_elsewhere is None, placement
        assert "unbound" in stats.slow_tier.engine
    """)

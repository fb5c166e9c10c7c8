"""Slow tiers in memory: arguments, stats, and a kernel that refuses to bind."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta
from tieralloc.tiers import parse_cpus
from tieralloc.tools.emulated import EmulatedMemory, parse_slow

NODE = next(n["id"] for n in ta._bindings.numa_nodes() if n["bytes"] and n["allowed"])
SLOW = [ta.NumaMemory(NODE), ta.NumaMemory(NODE, spill=True), EmulatedMemory(20)]


@pytest.fixture(params=SLOW, ids=str)
def slow(request):
    return request.param


def filled(store, rows=100, dim=8):
    table = store.create_table("item", rows, dim)
    table.load(numbered_rows(rows, dim))
    return table


def test_memory_serves_rows_with_and_without_fast_tier(slow):
    for fast_rows, promotion in ((0, "auto"), (10, "never"), (10, "always"), (10, "auto")):
        with ta.TieredStore(slow=replace(slow, promotion=promotion), fast_rows=fast_rows) as store:
            table = filled(store)
            for _ in range(3):
                np.testing.assert_array_equal(table.lookup(np.arange(100)), numbered_rows(100, 8))
            stats = store.stats()
            assert stats.lookups == 300 == stats.hits + stats.on_demand_fetches
            if fast_rows == 0 or promotion == "never":
                assert stats.hits == stats.fast_tier.resident_rows == stats.evictions == 0
            if promotion == "always":
                assert stats.fast_tier.resident_rows == 10


def test_stats_describe_slow_tier(slow):
    with ta.TieredStore(slow=replace(slow, promotion="always"), fast_rows=10) as store:
        filled(store).lookup([1, 2, 3])
        stats = store.stats()
    tier, promotion = stats.slow_tier, stats.promotion
    emulated = isinstance(slow, EmulatedMemory)
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
        assert tier.placement.mode == ("prefer" if slow.spill else "bind")
    assert promotion.rule == "always"
    assert promotion.is_active is True
    assert promotion.copy_ns > 0
    assert stats.dram.page_cache_bytes == 0
    json.dumps(stats.to_dict())


def test_stats_of_file_have_no_promotion_or_placement(make_store):
    stats = make_store().stats()
    assert stats.promotion is None
    assert stats.fast_tier.placement is None
    assert stats.slow_tier.is_emulated is False
    assert stats.slow_tier.placement is None
    assert stats.background_cpus == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "path, slow: expected one of them, got path=None and slow=None"),
        ({"path": "file", "slow": ta.NumaMemory(NODE)}, "path, slow: expected one of them, got pa"),
        ({"slow": ta.NumaMemory(4000)}, r"node 4000: does not exist; .*: \d+ \("),
        ({"slow": ta.NumaMemory(NODE), "fast_node": 4000}, "node 4000: does not exist"),
        ({"slow": ta.NumaMemory(NODE), "fast_node": -1}, "fast_node: expected 0 to 2.*, got -1"),
        ({"slow": ta.NumaMemory(NODE), "cpus": [4000]}, "cpus: expected processors .* got 4000"),
        ({"slow": ta.NumaMemory(NODE), "cpus": "1-"}, "cpus: expected processors such as .* '1-'"),
        ({"slow": ta.NumaMemory(NODE), "cpus": []}, r"cpus: expected one or more .* got \[\]"),
        ({"slow": ta.NumaMemory(NODE), "fast_rows": -1}, "fast_rows: expected 0 to "),
        ({"path": "file", "fast_rows": 0}, "fast_rows: expected 1 to "),
        ({"slow": ta.NumaMemory(NODE), "mode": "w"}, "mode: no effect with slow="),
        ({"slow": ta.File("file"), "mode": "r"}, r"mode: no effect .* slow=File\(path, mode='r'\)"),
        (
            {"path": "file", "fast_node": ta.NumaMemory(NODE, promotion="never")},
            r"promotion: no effect in fast_node; expected slow=NumaMemory\(node, promotion='never'",
        ),
    ],
)
def test_store_invalid_tiers_raise_and_leave_no_file(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        ta.TieredStore(**{"fast_rows": 4, **options})
    assert not list(tmp_path.iterdir())


def test_slow_tier_of_wrong_type_or_values_raises():
    for slow in ("numa:0", 0, ta.NumaMemory, {"node": 0}):
        with pytest.raises(TypeError, match="slow: expected a File, NumaMemory or Checkpoint, got"):
            ta.TieredStore(slow=slow, fast_rows=1)
    with pytest.raises(TypeError, match=r"path: expected a path; pass slow=NumaMemory\(node=0, "):
        ta.TieredStore(ta.NumaMemory(0), fast_rows=1)
    for make, message in (
        (lambda: ta.NumaMemory(-1), "node: expected 0 to 2147483647, got -1"),
        (lambda: ta.NumaMemory(0, promotion="maybe"), "promotion: expected one of 'auto', 'alw"),
        (lambda: EmulatedMemory(1, promotion="maybe"), "promotion: expected one of 'auto', 'alw"),
        (lambda: EmulatedMemory(0), "extra_ns: expected above 0, at most 1,000,000, got 0"),
        (lambda: EmulatedMemory(float("nan")), "extra_ns: .* got nan"),
        (lambda: EmulatedMemory(1, overlap=0), "overlap: expected 1 to 1024, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("slow", [*SLOW, ta.NumaMemory(12, spill=True), EmulatedMemory(1.5, 8)])
def test_slow_tier_parses_its_own_text(slow):
    assert parse_slow(str(slow)) == slow


@pytest.mark.parametrize("text", ["numa", "numa:x", "numa:-1", "emulated:", "disk", "numa:1:maybe"])
def test_slow_tier_unknown_text_raises(text):
    with pytest.raises(ValueError, match=f"slow tier '{text}': unknown; expected file, numa:"):
        parse_slow(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", [0]), ("0-2,8", [0, 1, 2, 8]), ([3, 1, 3], [1, 3]), (None, [])]
)
def test_parse_cpus_reads_kernel_lists(text, cpus):
    assert parse_cpus(text) == cpus


def test_create_table_beyond_memory_leaves_store_unchanged(slow):
    with ta.TieredStore(slow=replace(slow, promotion="always"), fast_rows=4) as store:
        table = filled(store)
        table.update([5], np.full((1, 8), 9, np.float32))
        with pytest.raises(MemoryError, match=r"rows of table 'large'; .* got 64000000000000"):
            store.create_table("large", 10**12, 16)
        assert list(store.tables) == ["item"]
        assert table.lookup([5])[0, 0] == 9


def test_memory_after_close_raises(slow):
    store = ta.TieredStore(slow=slow, fast_rows=4)
    table = filled(store)
    table.update([1], np.zeros((1, 8), np.float32))
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        table.lookup([1])


# mbind, move_pages and get_mempolicy fail with EPERM, as with a container's seccomp profile.
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


def test_strict_memory_refused_by_kernel_raises():
    run_refused("""
    try:
        ta.TieredStore(slow=ta.NumaMemory(int(sys.argv[1])), fast_rows=4)
    except OSError as error:
        assert error.errno == 1, error
        assert "refuses to bind memory to node" in str(error), error
        assert "strict=False" in str(error), error
    else:
        raise AssertionError("not refused")
    """)


def test_lenient_memory_refused_by_kernel_is_unbound():
    run_refused("""
    slow = ta.NumaMemory(int(sys.argv[1]), strict=False)
    with ta.TieredStore(slow=slow, fast_rows=4, fast_node=slow) as store:
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

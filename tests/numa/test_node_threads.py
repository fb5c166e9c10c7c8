"""Background threads run on the processors of the slow tier's node, or on given ones."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta
from tieralloc.tiers import parse_cpus


def threads():
    return set(os.listdir("/proc/self/task"))


def cpus_of(thread):
    status = Path(f"/proc/self/task/{thread}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list:"))
    return parse_cpus(line.split()[1])


def cpus_of_threads_since(before):
    """Return the processors of each new thread that still runs."""
    found = []
    for thread in threads() - before:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(cpus_of(thread))
    return found


def test_threads_run_on_processors_of_slow_node(nodes):
    for node in nodes:
        if not node["cpus"]:
            continue
        before = threads()
        with ta.TieredStore(slow=ta.NumaMemory(node["id"]), fast_rows=4) as store:
            assert store.stats().background_cpus == tuple(node["cpus"])
            store.create_table("item", 100, 8).prefetch([1])
            found = cpus_of_threads_since(before)
            assert found
            assert all(cpus == node["cpus"] for cpus in found)


def test_threads_run_on_given_processors(nodes, far):
    chosen = nodes[0]["cpus"][-1:]
    before = threads()
    with ta.TieredStore(slow=ta.NumaMemory(far["id"]), fast_rows=4, cpus=chosen) as store:
        assert store.stats().background_cpus == tuple(chosen)
        assert all(cpus == chosen for cpus in cpus_of_threads_since(before))


def test_threads_of_memory_only_node_avoid_serving_processors(nodes, memory_only):
    code = """
        import os
        import sys
        import tieralloc as ta

        everywhere = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, everywhere[:1])
        with ta.TieredStore(slow=ta.NumaMemory(int(sys.argv[1])), fast_rows=4) as store:
            assert store.stats().background_cpus == tuple(everywhere[1:]), store.stats()
        os.sched_setaffinity(0, everywhere)
        with ta.TieredStore(slow=ta.NumaMemory(int(sys.argv[1])), fast_rows=4) as store:
            assert store.stats().background_cpus == (), store.stats()
    """
    done = run_python(code, memory_only["id"])
    assert done.returncode == 0, done.stderr


def test_pinned_threads_serve_and_migrate(far):
    with ta.TieredStore(slow=ta.NumaMemory(far["id"], promotion="always"), fast_rows=200) as store:
        table = store.create_table("item", 2000, 16)
        table.load(numbered_rows(2000, 16))
        for first in range(0, 2000, 100):
            table.prefetch(np.arange(first, first + 100))
            table.update(np.arange(first, first + 10), np.full((10, 16), first, np.float32))
            table.lookup(np.arange(first, first + 100))
        store.flush()
        assert table.lookup([1900])[0, 0] == 1900


def test_missing_processors_raise(nodes):
    with pytest.raises(ValueError, match=r"cpus: expected processors .* got 4000"):
        ta.TieredStore(slow=ta.NumaMemory(nodes[0]["id"]), fast_rows=4, cpus=[4000])

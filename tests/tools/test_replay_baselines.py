"""The baselines of a replay: their vectors, their counts, and their limits of DRAM."""

import numpy as np
import pytest
from replay_cases import calls_of

from tieralloc.tools.disk import file_system_of
from tieralloc.tools.replay.baselines import (
    ENTRY_BYTES,
    Memmap,
    PythonLru,
    resident_pages,
    write_rows,
)
from tieralloc.tools.replay.callers import serve
from tieralloc.tools.replay.source import SourceRows
from tieralloc.tools.simulate import simulate
from tieralloc.trace.stream import count_distinct

DIM = 64


@pytest.fixture(scope="module")
def source(trace):
    return SourceRows(trace.num_embeddings.tolist(), DIM)


@pytest.fixture(scope="module")
def path(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("baselines") / "rows.f32"
    write_rows(path, source)
    return path


@pytest.fixture
def open_baseline(path, source):
    opened = []

    def open_one(kind, max_bytes):
        opened.append(kind(path, source, max_bytes))
        return opened[-1]

    yield open_one
    for baseline in opened:
        baseline.close()


@pytest.mark.parametrize("kind", [Memmap, PythonLru])
@pytest.mark.parametrize("threads", [1, 3])
def test_baseline_serves_sums_of_rows(trace, source, open_baseline, kind, threads):
    baseline = open_baseline(kind, 1 << 18)
    calls = calls_of(trace)
    serve(baseline, calls, threads, source, settle=baseline.settle)  # compares every vector
    assert baseline.lookups == trace.num_lookups
    assert 0 < baseline.misses < baseline.lookups


def test_python_lru_counts_what_the_simulator_counts(trace, open_baseline):
    accesses = trace.accesses()
    rows = 200
    lru = open_baseline(PythonLru, rows * (4 * DIM + ENTRY_BYTES))
    assert lru.fast_rows == rows
    lru.take(accesses.astype(np.int64))
    fraction = rows / count_distinct(accesses, int(trace.num_embeddings.sum()))
    (simulated,) = simulate(trace, ["lru"], [fraction], count_from=0)
    assert simulated["fast_rows"] == rows
    assert (lru.lookups, lru.misses) == (simulated["lookups"], simulated["on_demand_fetches"])


@pytest.mark.parametrize("kind", [Memmap, PythonLru])
def test_warm_baseline_equals_one_that_served(trace, open_baseline, kind):
    calls = calls_of(trace)
    served, warmed = (open_baseline(kind, 1 << 18) for _ in range(2))
    serve(served, calls[:10], settle=served.settle)
    warmed.warm(np.concatenate([warmed.rows_of_call(call) for call in calls[:4]]))
    warmed.warm(np.concatenate([warmed.rows_of_call(call) for call in calls[4:10]]))
    before = served.lookups, served.misses
    for baseline in (served, warmed):
        serve(baseline, calls[10:], settle=baseline.settle)
    assert (warmed.lookups, warmed.misses) == tuple(
        np.subtract((served.lookups, served.misses), before)
    )
    assert warmed.misses > 0


def test_memmap_page_cache_stays_within_the_limit(trace, path, open_baseline):
    if file_system_of(path).in_memory:
        pytest.skip("the file is in memory")
    limit = 1 << 18
    memmap = open_baseline(Memmap, limit)
    calls = calls_of(trace)
    serve(memmap, calls, settle=memmap.settle)
    assert memmap.evictions > 0
    assert resident_pages(path) * 4096 == memmap.dram_bytes <= 1.1 * limit


def test_python_lru_dictionary_is_within_the_limit(trace, open_baseline):
    limit = 1 << 18
    lru = open_baseline(PythonLru, limit)
    lru.take(trace.accesses().astype(np.int64))
    assert lru.evictions > 0
    assert 0.7 * limit < lru.dram_bytes < 1.15 * limit

"""Real traces: their sizes, and miss ratios against libCacheSim's."""

import pytest
from reference_traces import reference

from tieralloc.tools.simulate import simulate

POLICIES = ("lru", "clock", "s3fifo", "sieve", "opt")
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)

# Miss ratios of the second half, access by access: one row per fast fraction, in POLICIES order.
LIBCACHESIM = {
    "trivago": (
        (0.2490, 0.2487, 0.2857, 0.2793, 0.2015),
        (0.2153, 0.2152, 0.2223, 0.2214, 0.1615),
        (0.1994, 0.1998, 0.1960, 0.2036, 0.1399),
        (0.1797, 0.1797, 0.1691, 0.1766, 0.1114),
    ),
    "diginetica": (
        (0.7871, 0.7868, 0.7583, 0.7810, 0.6360),
        (0.7024, 0.6991, 0.6300, 0.6612, 0.4617),
        (0.6150, 0.6092, 0.5350, 0.5551, 0.3566),
        (0.4791, 0.4718, 0.4113, 0.4138, 0.2384),
    ),
}
# Samples, lookups and distinct rows of each trace.
SIZES = {"trivago": (100_003, 926_249, 125_134), "diginetica": (70_756, 579_478, 38_970)}


@pytest.mark.parametrize("name", SIZES)
def test_read_reference_trace_has_known_size(name):
    trace = reference(name)
    distinct = len(set(trace.accesses().tolist()))
    assert (trace.num_samples, trace.num_lookups, distinct) == SIZES[name]
    assert trace.name == name


@pytest.mark.parametrize("name", LIBCACHESIM)
def test_simulate_reference_trace_misses_as_libcachesim(name):
    records = simulate(reference(name), POLICIES, FAST_FRACTIONS)
    miss_ratios = {(r["policy"], r["fast_fraction"]): round(r["miss_ratio"], 4) for r in records}
    expected = {
        (policy, fraction): miss_ratio
        for fraction, row in zip(FAST_FRACTIONS, LIBCACHESIM[name], strict=True)
        for policy, miss_ratio in zip(POLICIES, row, strict=True)
    }
    assert miss_ratios == expected

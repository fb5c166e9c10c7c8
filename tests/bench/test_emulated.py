"""The emulated slow tiers of bench.numa: what is worked out of them."""

import pytest

from bench.numa.emulated import ADMISSIONS, LINES, break_even, run, to_markdown
from tieralloc._common.progress import silent
from tieralloc.trace import generate


def made_up(a, b, misses, latencies=(1, 10, 20, 40)):
    """Records of a policy that takes a + misses x L ns, beside b + L without a fast tier."""
    records = []
    for extra in latencies:
        for admission in ADMISSIONS:
            none = b + LINES * extra
            for policy, took, ratio in (
                ("none", none, 1),
                ("lru", a + misses * LINES * extra, misses),
            ):
                records.append(
                    {
                        "extra_ns": extra,
                        "admission": admission,
                        "policy": policy,
                        "trace": "made up",
                        "fast_fraction": 0.0 if policy == "none" else 0.05,
                        "ns_per_lookup": took,
                        "beside_none": none / took,
                        "miss_ratio": ratio,
                        "machine": "a machine",
                        "emulated": True,
                    }
                )
    return records


@pytest.mark.parametrize(("a", "b", "misses"), [(60, 30, 0.2), (100, 20, 0.5), (45, 40, 0.1)])
def test_break_even_is_where_both_take_the_same(a, b, misses):
    worked_out, measured = break_even(made_up(a, b, misses), "lru")
    exact = (a - b) / (1 - misses) / LINES
    assert worked_out == pytest.approx(exact)
    if exact > 1:
        assert measured == pytest.approx(exact, rel=0.1)


def test_a_policy_that_never_pays_has_no_measured_break_even():
    worked_out, measured = break_even(made_up(1000, 10, 0.5), "lru")
    assert worked_out > 40
    assert measured is None
    last = to_markdown(made_up(1000, 10, 0.5)).splitlines()[-2]
    assert last.split() == ["lru", "0.500", "+495", "ns", "-"]


def test_a_run_has_every_latency_policy_and_admission_and_says_emulated():
    trace = generate(num_samples=400, num_tables=2, name="small")
    records = run(trace, ["lru"], 0.2, extra_ns=(1, 50), repeats=2, progress=silent)
    assert {(r["extra_ns"], r["admission"], r["policy"]) for r in records} == {
        (x, a, p) for x in (1, 50) for a in ADMISSIONS for p in ("none", "lru")
    }
    for record in records:
        assert record["emulated"] is True
        assert record["slow_tier"].startswith("emulated: local memory, loads in place, +")
        assert len(record["samples_ns"]) == 2
    assert "Emulated" in to_markdown(records)

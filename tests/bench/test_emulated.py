"""The emulated slow tiers of bench.numa: a small run, and the break-even latency."""

import pytest

from bench.numa import emulated
from bench.numa.emulated import LINES, break_even
from bench.policies.study import measure_case
from bench.scenery.trained import train
from tieralloc import trace


def synthetic_records(a, b, misses):
    """Return records of a fast tier of a + misses x L ns per lookup, and of none of b + L ns."""
    records = []
    for extra in (1, 10, 20, 40):
        none, own = b + LINES * extra, a + misses * LINES * extra
        for tier, took, ratio in (("none", none, 1), ("lru, always", own, misses)):
            record = {"ns_per_lookup": took, "times_as_fast": none / took, "miss_ratio": ratio}
            records.append({**record, "extra_ns": extra, "tier": tier})
    return records


@pytest.mark.parametrize(("a", "b", "misses"), [(60, 30, 0.2), (100, 20, 0.5), (45, 40, 0.1)])
def test_break_even_is_the_latency_of_equal_times(a, b, misses):
    derived, measured = break_even(synthetic_records(a, b, misses), "lru, always")
    exact = (a - b) / (1 - misses) / LINES
    assert derived == pytest.approx(exact)
    if exact > 1:
        assert measured == pytest.approx(exact, rel=0.1)


def test_break_even_of_slower_tier_is_not_measured():
    derived, measured = break_even(synthetic_records(1000, 10, 0.5), "lru, always")
    assert (derived > 40, measured) == (True, None)


def test_emulated_run_has_each_latency_policy_and_promotion(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    made = trace.generate(num_samples=400, num_tables=2, name="small")
    trace.write(made, tmp_path / "small.npz")
    policy, _ = train(made, "recmg", tmp_path, fast_fractions=[0.05], epochs=1)
    monkeypatch.setattr(emulated, "EXTRA_NS", (20,))
    monkeypatch.setattr(emulated, "REPEATS", 1)
    records = measure_case(emulated.measure, "", tmp_path / "small.npz", {"recmg": policy})
    tiers = {"none", *(f"{p}, {a}" for p in ("lru", "recmg") for a in ("always", "auto"))}
    cells = {(record["extra_ns"], record["tier"]) for record in records}
    assert cells == {(extra, tier) for extra in (20,) for tier in tiers}
    assert "small, recmg, always" in emulated.STUDY.summary(records)

"""The metrics of all statistics: complete, documented, in base units."""

import pytest

from tieralloc._bindings import all_statistics
from tieralloc.metrics.families import families, samples
from tieralloc.stats import StoreStats


def statistics_of_every_kind():
    values = {**all_statistics(), "policy": "lru", "switches": 0}
    values["policy_stats"]["fallback"] = "lru"
    values["policy_stats"]["tiers"][0]["miss_ratios"] = {"lru": 0.25, "learned": 0.125}
    for group in ("fast_tier", "slow_tier"):
        placement = {"node": 1, "mode": "bind", "pages": 5, "pages_elsewhere": 2, "refused": "no"}
        values[group]["placement"] = placement
    values["slow_tier"]["overlap"] = 3
    for name in ("lookup_ns_with_copies", "lookup_ns_in_place", "copy_ns"):
        values["promotion"][name] = 7.0
    return StoreStats.of(values)


def test_every_metric_has_samples_and_labels():
    known = {family.name: family for family in families()}
    assert len(known) == len(families())
    found = list(samples(statistics_of_every_kind()))
    assert {sample.family for sample in found} == known.keys()
    for sample in found:
        assert len(sample.labels) == len(known[sample.family].labels), sample
    values = {(sample.family, sample.labels): sample.value for sample in found}
    assert values["tieralloc_learned_miss_ratios", ("0", "learned")] == 0.125
    assert values["tieralloc_fast_tier_placement_refused", ()] == 1
    assert values["tieralloc_promotion_copy_seconds", ()] == pytest.approx(7e-9)


def test_metrics_have_texts_of_fields():
    helps = {family.name: family.help for family in families()}
    assert not [name for name, text in helps.items() if text[0].islower()]
    assert helps["tieralloc_evictions"] == "Rows evicted from the fast tier."
    assert helps["tieralloc_lookup_waited_seconds"].startswith("Seconds that calls waited")
    assert "anosecond" not in " ".join(helps.values())


@pytest.mark.parametrize("unit", ["ns", "ms", "us", "nanoseconds"])
def test_metrics_have_base_units(unit):
    assert not [family.name for family in families() if unit in family.name.split("_")]

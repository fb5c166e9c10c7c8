"""Statistics: the dataclasses have the names of the core, documented."""

import ast
import collections.abc
import dataclasses
import inspect
import json
import types
import typing
from operator import getitem

import pytest

from tieralloc import stats
from tieralloc._bindings import all_statistics
from tieralloc.stats import Group, PolicyStats, StoreStats

#: Added in Python; the core has no names of policies.
OF_PYTHON = {"policy", "policy_stats.fallback", "switches"}
#: Its keys are names of policies.
OPEN = "miss_ratios"
#: Its keys are names of tables.
BY_TABLE = "tables"


def names_of_core(statistics, prefix=""):
    names = set()
    for name, value in statistics.items():
        inner = value[0] if isinstance(value, tuple) and value else value
        if name == BY_TABLE:
            (inner,) = value.values()
        if isinstance(inner, dict) and name != OPEN:
            names |= names_of_core(inner, f"{prefix}{name}.")
        else:
            names.add(prefix + name)
    return names


def names_of_fields(group, prefix=""):
    names = set()
    for name, hint in typing.get_type_hints(group).items():
        kinds = [hint]
        if typing.get_origin(hint) in (tuple, types.UnionType, collections.abc.Mapping):
            kinds = typing.get_args(hint)
        inner = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Group)]
        names |= names_of_fields(inner[0], f"{prefix}{name}.") if inner else {prefix + name}
    return names


def test_stats_fields_have_names_of_core():
    assert names_of_core(all_statistics()) | OF_PYTHON == names_of_fields(StoreStats)


def test_stats_fields_are_documented():
    tree = ast.parse(inspect.getsource(stats))
    groups = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in (*stats.__all__, "Group")
    }
    undocumented = []
    for name, node in groups.items():
        for item, following in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(item, ast.AnnAssign):
                continue
            is_documented = isinstance(following, ast.Expr)
            if not is_documented and ast.unparse(item.annotation) not in groups:
                undocumented.append(f"{name}.{item.target.id}")
        assert ast.get_docstring(node), name
    assert not undocumented


def test_stats_missing_and_unknown_names_raise():
    values = {**all_statistics()["policy_stats"], "fallback": "lru"}
    assert PolicyStats.of(values).fallback == "lru"
    del values["steps"]
    values["stepps"] = 0
    with pytest.raises(TypeError, match=r"PolicyStats: .*missing: .'steps'.*unknown: .'stepps'"):
        PolicyStats.of(values)


def test_stats_nested_groups_convert_to_dicts():
    values = {**all_statistics(), "policy": "lru", "switches": 0}
    values["policy_stats"]["fallback"] = "lru"
    values["promotion"] = None
    group = StoreStats.of(values)
    assert isinstance(group.policy_stats.tiers[0].prefetching, stats.PolicyPrefetchStats)
    assert group.promotion is None
    as_dict = group.to_dict()
    assert as_dict["policy_stats"]["tiers"][0]["prefetching"]["calibration"] == 1
    assert json.loads(json.dumps(as_dict)) == as_dict


def test_stats_are_frozen_and_json(make_store):
    store = make_store()
    store.create_table("item", 10, 4).lookup([1, 2, 1])
    stats_now = store.stats()
    assert (stats_now.calls, stats_now.lookups, stats_now.hits, stats_now.on_demand_fetches) == (
        1,
        3,
        1,
        2,
    )
    assert stats_now.miss_ratio == 2 / 3
    assert stats_now.latency.call_on_demand.count == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats_now.lookups = 4
    as_dict = stats_now.to_dict()
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert as_dict["latency"]["call_on_demand"]["p99_ns"] > 0
    assert set(as_dict) == {field.name for field in dataclasses.fields(StoreStats)}


def test_latency_counts_below_powers_of_two_ascend(make_store):
    store = make_store()
    table = store.create_table("item", 1000, 4)
    for row in range(100):
        table.lookup([row, row + 1])
    for latency in dataclasses.astuple(store.stats().latency):
        latency = stats.Latency(*latency)
        below = dict(zip(stats.LATENCY_BOUNDS_NS, latency.counts_below, strict=True))
        assert list(latency.counts_below) == sorted(latency.counts_below)
        assert all(
            count == latency.count for bound, count in below.items() if bound > latency.max_ns
        )
        assert below[stats.LATENCY_BOUNDS_NS[-1]] == latency.count
        assert latency.count * latency.max_ns >= latency.sum_ns >= latency.max_ns


def test_stats_subscript_raises_with_attribute(make_store):
    with pytest.raises(TypeError, match=r"stats\(\)\.lookups .*to_dict"):
        getitem(make_store().stats(), "lookups")

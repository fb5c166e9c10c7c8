"""The metrics of `StoreStats`: name, kind, help and values of each field.

The types of the fields in `tieralloc.stats` decide: a `Counter` is a counter, another number a
gauge, a `Latency` a histogram, a `State` or an `ErrorText` a gauge of 0 and 1, another text a label
of an info metric. Names and values are in base units: ``waited_ns`` becomes ``waited_seconds``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from tieralloc import stats
from tieralloc.stats import Group, Latency, StoreStats

__all__ = ["Family", "Sample", "families", "samples"]

_NS = 1e-9

#: Words of a metric's name where they differ from the field's.
_WORDS = {"policy_stats": "policy", "tables": "table", "policy_lag": "lag"}
#: Fields of several groups: the words of their metrics, and the label that tells groups apart.
_SEVERAL = {"tables": ("tieralloc_table", "table"), "tiers": ("tieralloc_learned", "tier")}


@dataclass(frozen=True)
class Family:
    """A metric: its kind is "counter", "gauge" or "histogram"."""

    name: str  # without the suffix of its kind, such as _total
    kind: str
    help: str
    labels: tuple[str, ...] = ()  # beside that of the store


@dataclass(frozen=True)
class Sample:
    """A value of a metric, or the histogram."""

    family: str
    labels: tuple[str, ...]
    value: float | Latency


@dataclass(frozen=True)
class _Scope:
    """A group's part of names, and the labels of its samples."""

    prefix: str = "tieralloc"
    labels: tuple[str, ...] = ()
    info: str = "tieralloc_store_info"

    def inner(self, field: str) -> _Scope:
        word = _WORDS.get(field, field)
        return _Scope(f"{self.prefix}_{word}", self.labels, self.info)

    def one_of(self, field: str) -> _Scope:
        prefix, label = _SEVERAL[field]
        return _Scope(prefix, (*self.labels, label), f"{prefix}_info")


@dataclass(frozen=True)
class _Field:
    """A field of a group, as metrics see it."""

    name: str
    kind: str  # "group", "groups", "ratios", "latency", "info", or a kind below
    help: str
    group: type[Group] | None = None


_FIELDS: dict[type[Group], tuple[_Field, ...]] = {}


@cache
def families() -> tuple[Family, ...]:
    """Return every metric that a store can have."""
    return (*_families_of(StoreStats, _Scope()), *_infos_of(StoreStats, _Scope()))


def samples(values: StoreStats) -> Iterator[Sample]:
    """Return the metrics of a store; those that do not apply to it are left out."""
    yield from _samples_of(values, _Scope(), ())
    yield from _info_of(values, _Scope(), ())


def _families_of(group: type[Group], scope: _Scope) -> Iterator[Family]:
    for field in _fields_of(group):
        name = _metric_name(scope, field)
        if field.kind == "group":
            yield from _families_of(_group_of(field), scope.inner(field.name))
        elif field.kind == "groups":
            inner = scope.one_of(field.name)
            yield from _families_of(_group_of(field), inner)
            yield from _infos_of(_group_of(field), inner)
        elif field.kind == "latency":
            yield Family(name, "histogram", field.help, scope.labels)
            yield Family(_max_name(name), "gauge", f"Maximum: {field.help}", scope.labels)
        elif field.kind == "counter":
            yield Family(name, "counter", field.help, scope.labels)
        elif field.kind != "info":
            yield Family(name, "gauge", field.help, (*scope.labels, *_extra_labels(field)))


def _infos_of(group: type[Group], scope: _Scope) -> Iterator[Family]:
    """Return the info metric of a group, if it has texts."""
    names = tuple(name for name, _ in _texts_of(group, None))
    if names:
        help = "The texts of the statistics as labels; the value is 1."
        yield Family(scope.info, "gauge", help, (*scope.labels, *names))


def _samples_of(values: Group, scope: _Scope, labels: tuple[str, ...]) -> Iterator[Sample]:
    for field in _fields_of(type(values)):
        value = getattr(values, field.name)
        if value is None or field.kind == "info":
            continue
        if field.kind == "group":
            yield from _samples_of(value, scope.inner(field.name), labels)
        elif field.kind == "groups":
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for name, item in items:
                inner, inner_labels = scope.one_of(field.name), (*labels, str(name))
                yield from _samples_of(item, inner, inner_labels)
                yield from _info_of(item, inner, inner_labels)
        else:
            yield from _samples_of_field(field, value, scope, labels)


def _info_of(values: Group, scope: _Scope, labels: tuple[str, ...]) -> Iterator[Sample]:
    texts = tuple(text for _, text in _texts_of(type(values), values))
    if texts:
        yield Sample(scope.info, (*labels, *texts), 1)


def _samples_of_field(
    field: _Field, value: Any, scope: _Scope, labels: tuple[str, ...]
) -> Iterator[Sample]:
    name = _metric_name(scope, field)
    if field.kind == "latency":
        yield Sample(name, labels, value)
        yield Sample(_max_name(name), labels, value.max_ns * _NS)
    elif field.kind == "ratios":
        for each, ratio in value.items():
            yield Sample(name, (*labels, each), ratio)
    elif field.kind == "state":
        yield Sample(name, (*labels, value), 1)
    elif field.kind == "error":
        yield Sample(name, labels, float(bool(value)))
    else:
        yield Sample(name, labels, value * (_NS if "ns" in field.name.split("_") else 1))


def _extra_labels(field: _Field) -> tuple[str, ...]:
    if field.kind == "ratios":
        return ("policy",)
    return (field.name,) if field.kind == "state" else ()


def _metric_name(scope: _Scope, field: _Field) -> str:
    words = field.name.split("_")
    if "ns" in words or field.kind == "latency":
        words = [*(word for word in words if word != "ns"), "seconds"]
    return "_".join([scope.prefix, *words])


def _max_name(name: str) -> str:
    return f"{name.removesuffix('_seconds')}_max_seconds"


def _texts_of(group: type[Group], values: Group | None) -> Iterator[tuple[str, str]]:
    """Return the names and values of the texts of a group and of single groups in it."""
    for field in _fields_of(group):
        value = None if values is None else getattr(values, field.name)
        if field.kind == "info":
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value or "")
            yield field.name, text
        elif field.kind == "group":
            for name, text in _texts_of(_group_of(field), value):
                yield f"{field.name}_{name}", text


def _group_of(field: _Field) -> type[Group]:
    assert field.group is not None
    return field.group


def _fields_of(group: type[Group]) -> tuple[_Field, ...]:
    if group not in _FIELDS:
        _FIELDS[group] = tuple(_read_fields(group))
    return _FIELDS[group]


def _read_fields(group: type[Group]) -> Iterator[_Field]:
    helps = _helps()
    for name, hint in get_type_hints(group, include_extras=True).items():
        kind, inner = _kind_of(hint)
        yield _Field(name, kind, helps.get(f"{group.__name__}.{name}", name), inner)


def _kind_of(hint: Any) -> tuple[str, type[Group] | None]:
    if hasattr(hint, "__metadata__"):
        return hint.__metadata__[0], None
    groups = [kind for kind in (hint, *get_args(hint)) if inspect.isclass(kind)]
    inner = next((kind for kind in groups if issubclass(kind, Group)), None)
    if inner is Latency:
        return "latency", None
    if inner is not None:
        return ("groups" if get_origin(hint) in (tuple, Mapping) else "group"), inner
    if get_origin(hint) is Mapping:
        return "ratios", None
    return ("info" if get_origin(hint) is tuple or str in groups else "gauge"), None


@cache
def _helps() -> dict[str, str]:
    """Return the texts of the fields in tieralloc/stats.py, by class and name."""
    helps = {}
    for node in ast.parse(inspect.getsource(stats)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for item, text in zip(node.body, node.body[1:], strict=False):
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                words = " ".join(str(text.value.value).split())
                words = words.replace("anoseconds", "econds").replace("Neconds", "Seconds")
                helps[f"{node.name}.{item.target.id}"] = words
    return helps

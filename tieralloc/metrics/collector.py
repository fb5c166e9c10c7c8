"""The collector of the stores in a registry of prometheus-client."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from tieralloc.metrics.families import Family, Sample, families, samples
from tieralloc.stats import LATENCY_BOUNDS_NS, Latency, StoreStats

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from tieralloc.store import TieredStore

__all__ = ["register", "unregister"]

_lock = threading.Lock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Collector] = weakref.WeakKeyDictionary()


def register(
    store: TieredStore, name: str | None = None, registry: CollectorRegistry | None = None
) -> None:
    """Add the statistics of a store to a registry of prometheus-client.

    Each scrape calls `TieredStore.stats` of every store of the registry. A store that was closed or
    collected as garbage gives no samples; the registry does not keep it open.

    Parameters
    ----------
    store : TieredStore
        An open store.
    name : str, optional
        Value of the label ``store``, unique in the registry. Default: the store's file, or the name
        of its memory.
    registry : prometheus_client.CollectorRegistry, optional
        Default: ``prometheus_client.REGISTRY``.

    Raises
    ------
    ImportError
        If prometheus-client is not installed.
    ValueError
        If the store is closed, the registry has the store already, or another open store has the
        name.

    Examples
    --------
    >>> import prometheus_client, tieralloc as ta
    >>> store = ta.TieredStore("metrics.tier", fast_bytes="4MiB")
    >>> row = store.create_table("item", 1000, 16).lookup([3])
    >>> registry = prometheus_client.CollectorRegistry()
    >>> ta.metrics.register(store, name="ads", registry=registry)
    >>> labels = {"store": "ads", "table": "item"}
    >>> registry.get_sample_value("tieralloc_table_lookups_total", labels)
    1.0
    """
    registry = _default_registry() if registry is None else registry
    path = store.stats().slow_tier.path  # ValueError if the store is closed
    label = path if name is None else name
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _Collector()
            registry.register(cast(Any, collector))
            _collectors[registry] = collector
        collector.add(label, store)


def unregister(store: TieredStore, registry: CollectorRegistry | None = None) -> None:
    """Remove a store from a registry; the store may be closed.

    Raises
    ------
    KeyError
        If the registry does not have the store.
    """
    registry = _default_registry() if registry is None else registry
    with _lock:
        collector = _collectors.get(registry)
        if collector is None or not collector.remove(store):
            raise KeyError(f"store: expected one of the registry's stores, got {store!r}")
        if collector.is_empty():
            registry.unregister(cast(Any, _collectors.pop(registry)))


def _default_registry() -> CollectorRegistry:
    try:
        from prometheus_client import REGISTRY
    except ImportError as error:
        raise ImportError(
            "tieralloc.metrics needs prometheus-client: pip install 'tieralloc[metrics]'"
        ) from error
    return REGISTRY


class _Collector:
    """The stores of one registry: one collector for all, because a metric is listed once."""

    def __init__(self) -> None:
        self._stores: dict[str, weakref.ref[TieredStore]] = {}

    def add(self, name: str, store: TieredStore) -> None:
        others = {}
        for label, reference in self._stores.items():
            other = reference()
            if other is store:
                raise ValueError(
                    f"store: registered already, with the name {label!r}; call unregister first"
                )
            if other is not None and not other.closed:
                others[label] = reference
        if name in others:
            raise ValueError(
                f"name: another open store has {name!r}; expected a name that is unique in the "
                "registry"
            )
        self._stores = {**others, name: weakref.ref(store)}  # a scrape may iterate over the former

    def remove(self, store: TieredStore) -> bool:
        left = {name: other for name, other in self._stores.items() if other() is not store}
        is_known = len(left) < len(self._stores)
        self._stores = left
        return is_known

    def is_empty(self) -> bool:
        return not self._stores

    def describe(self) -> Iterator[Any]:
        return iter(_metrics().values())

    def collect(self) -> Iterator[Any]:
        metrics = _metrics()
        for name, reference in self._stores.items():
            stats = _stats_of(reference())
            for sample in () if stats is None else samples(stats):
                _add_sample(metrics[sample.family], name, sample)
        return (metric for metric in metrics.values() if metric.samples)


def _stats_of(store: TieredStore | None) -> StoreStats | None:
    """Return the statistics of a store; None if it is closed, or of the process before a fork."""
    if store is None or store.closed:
        return None
    try:
        return store.stats()
    except ValueError:
        if store.closed or not store._core.belongs_here:
            return None
        raise


def _metrics() -> dict[str, Any]:
    """Return all metrics, without samples."""
    return {family.name: _metric(family) for family in families()}


def _metric(family: Family) -> Any:
    from prometheus_client import core

    kinds: dict[str, Any] = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    labels = ["store", *family.labels]
    return kinds[family.kind](family.name, family.help, labels=labels)


def _add_sample(metric: Any, store: str, sample: Sample) -> None:
    labels = [store, *sample.labels]
    if not isinstance(sample.value, Latency):
        metric.add_metric(labels, sample.value)
        return
    latency = sample.value
    bounds = [repr(bound * 1e-9) for bound in LATENCY_BOUNDS_NS]
    buckets = [*zip(bounds, latency.counts_below, strict=True), ("+Inf", latency.count)]
    metric.add_metric(labels, buckets, latency.sum_ns * 1e-9)

"""Statistics of stores as Prometheus metrics, by the package prometheus-client."""

from tieralloc.metrics.collector import register, unregister

__all__ = ["register", "unregister"]

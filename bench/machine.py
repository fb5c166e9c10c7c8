"""Moved to `bench.scenery.machine`; this name stays until bench.policies and bench.paper move."""

from bench.scenery.machine import describe, slug, version_of

__all__ = ["describe", "slug", "version_of"]

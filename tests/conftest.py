"""Fixtures that every test may use, and how hypothesis draws."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import StoreMaker, real_folder

# Before torch is loaded, which reads it: the models are small, and on a busy machine their threads
# wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: what fails in CI fails on a desk. `--hypothesis-profile=search`
# looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "search", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture
def folder():
    """An empty folder on a file system that bypasses the page cache, where there is one."""
    with real_folder() as path:
        yield path


@pytest.fixture
def make_store(folder: Path):
    """Make stores that are closed when the test ends: `make_store(fast_rows=8, ...)`."""
    with StoreMaker(folder) as maker:
        yield maker

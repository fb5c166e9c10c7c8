"""Fixtures of all tests, and the settings of hypothesis."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import StoreMaker, real_folder

# torch reads this when it is imported. The models are small: on a busy machine, several threads
# mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a failure in CI can be repeated. Run with
# `--hypothesis-profile=search` for new examples.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "search", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture
def folder():
    """Return an empty folder, on a file system with O_DIRECT if there is one."""
    with real_folder() as path:
        yield path


@pytest.fixture
def make_store(folder: Path):
    """Return a StoreMaker, which closes its stores at the end: `make_store(fast_rows=8, ...)`."""
    with StoreMaker(folder) as maker:
        yield maker

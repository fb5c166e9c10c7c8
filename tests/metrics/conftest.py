"""Fixtures of the tests of metrics."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def promtool():
    """Return the path of Prometheus' promtool, from the PATH or as .ci/run unpacks it."""
    unpacked = Path(__file__).parents[2] / "build" / "promtool" / "usr" / "bin" / "promtool"
    found = shutil.which("promtool") or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        pytest.skip("promtool is not here; Debian's package prometheus has it")
    return found

"""Machines with several NUMA nodes: a guest that CI boots, or a real one."""

import os

import pytest

from tieralloc import _bindings


@pytest.fixture(scope="session")
def nodes():
    """The nodes with memory. With fewer than two a test skips; in CI's guests it fails."""
    found = [node for node in _bindings.numa_nodes() if node["bytes"] and node["allowed"]]
    if len(found) < 2:
        reason = f"needs two NUMA nodes with memory, this machine has {len(found)}"
        if os.environ.get("NUMA_GUEST") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def memory_only(nodes):
    found = [node for node in nodes if not node["cpus"]]
    if not found:
        pytest.skip("no node without processors here")
    return found[0]


@pytest.fixture(scope="session")
def far(nodes):
    """The last node: another socket's, or one without processors."""
    return nodes[-1]


@pytest.fixture(scope="session")
def guest():
    """Tests that fill nodes or make control groups run in guests only."""
    if os.environ.get("NUMA_GUEST") != "1":
        pytest.skip("needs a guest that may be filled to the brim (NUMA_GUEST=1)")

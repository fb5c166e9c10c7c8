"""Nodes outside the cpuset of a control group."""

import os
from pathlib import Path

import pytest
from support import run_python

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def confined(guest, nodes):
    """A control group with the memory of the first node only."""
    controllers = CGROUPS / "cgroup.controllers"
    if os.geteuid() != 0 or "cpuset" not in (
        controllers.read_text() if controllers.exists() else ""
    ):
        pytest.skip("no cpuset can be made here")
    (CGROUPS / "cgroup.subtree_control").write_text("+cpuset")
    group = CGROUPS / "tieralloc-test"
    group.mkdir()
    (group / "cpuset.mems").write_text(str(nodes[0]["id"]))
    yield group
    group.rmdir()


def test_node_outside_cpuset_raises_and_doctor_warns(confined, nodes, far):
    code = """
        import os
        import sys
        from pathlib import Path

        Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
        import tieralloc as ta
        from tieralloc.tools import doctor

        inside, outside = map(int, sys.argv[2:])
        try:
            ta.TieredStore(slow=ta.NumaMemory(outside), fast_rows=1)
        except ValueError as error:
            text = str(error)
            assert f"node {outside}: is outside this process's cpuset" in text, text
            assert f"this process: {inside} (" in text, text
            assert f"{outside} (" not in text, text
        else:
            raise AssertionError("not refused")
        ta.TieredStore(slow=ta.NumaMemory(inside), fast_rows=1).close()
        finding = doctor._cpuset()
        assert finding.status == "warn" and str(outside) in finding.found, finding
    """
    done = run_python(code, confined, nodes[0]["id"], far["id"])
    assert done.returncode == 0, done.stderr

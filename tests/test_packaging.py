"""The compiled modules share one copy of the core, in the source tree and installed."""

import re
import shutil
from pathlib import Path

import pytest
from support import run_python

import tieralloc
from tieralloc import policies

PACKAGE = Path(tieralloc.__file__).parent
LIBRARY = Path("_bindings", "libtieralloc_core.so")

# Serves and simulates with the package in the folder argv[1], then prints the mapped libraries.
SERVE = """
import sys

sys.path.insert(0, sys.argv[1])

import numpy as np
import tieralloc as ta
from tieralloc.policies.baselines._native import NextRow, PrefetchingSimulator

with ta.TieredStore(sys.argv[2], fast_rows=8) as store:
    table = store.create_table("item", 10, 4)
    table.load(np.full((10, 4), 3.0, dtype=np.float32))
    assert (table.lookup([1, 9]) == 3.0).all()

simulator = PrefetchingSimulator("lru", 4, 10, NextRow(10))
simulator.run(np.arange(10, dtype=np.uint64), [10])
assert simulator.counts["lookups"] == 10

with open("/proc/self/maps") as maps:
    print(*{line.split()[-1] for line in maps if "libtieralloc_core" in line}, sep="\\n")
"""


def mapped_libraries(site, folder):
    run = run_python(SERVE, site, folder / "new.tier", cwd=folder)
    assert run.returncode == 0, run.stderr
    return [Path(line) for line in run.stdout.splitlines()]


def test_core_in_place_is_mapped_once(folder):
    assert mapped_libraries(PACKAGE.parent, folder) == [PACKAGE / LIBRARY]


def test_core_installed_is_mapped_once(folder, tmp_path):
    # As a wheel installs it: policies/ lies inside tieralloc/.
    package = tmp_path / "tieralloc"
    sources = shutil.ignore_patterns("*.cpp", "__pycache__")
    shutil.copytree(PACKAGE, package, ignore=sources)
    shutil.copytree(
        Path(policies.__file__).parent, package / "policies", ignore=sources, dirs_exist_ok=True
    )
    assert mapped_libraries(tmp_path, folder) == [package / LIBRARY]


def test_every_package_is_installed():
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").exists():
        pytest.skip("the tests do not lie in a checkout")
    listed = set(
        re.findall(r'^  "(tieralloc[\w.]*)",$', (root / "pyproject.toml").read_text(), re.M)
    )
    there = {
        ".".join((name, *path.parent.relative_to(root / folder).parts))
        for name, folder in (("tieralloc", "tieralloc"), ("tieralloc.policies", "policies"))
        for path in (root / folder).rglob("__init__.py")
    }
    assert there <= listed

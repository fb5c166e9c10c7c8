"""docs/architecture.md matches the code: files, functions and drawings."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SUFFIXES = r"(?:py|pyx|cpp|hpp|inc|md)"
STEPS = re.findall(rf"^\| \d+\. [^|]* \| `([^`]+\.{SUFFIXES})` \| `(\w+)` \|$", PAGE, re.MULTILINE)


def rooms():
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def path_of(name):
    in_root = name.startswith(("tieralloc/", "policies/", "docs/", "README"))
    return ROOT / name if in_root else ROOT / "tieralloc" / "_core" / name


@pytest.mark.parametrize("name", sorted(set(re.findall(rf"`([\w/]+\.{SUFFIXES})`", PAGE))))
def test_named_file_exists(name):
    if "/" not in name and not path_of(name).exists():
        name = f"tieralloc/{name}"
    assert path_of(name).is_file()


@pytest.mark.parametrize(("name", "function"), STEPS)
def test_named_function_is_in_its_file(name, function):
    assert re.search(rf"\b{function}\(", path_of(name).read_text())


def test_steps_of_lookup_have_file_and_function():
    lookup = PAGE.partition("## One lookup")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| \d+\.", lookup, re.MULTILINE)) >= 10
    assert len(STEPS) == len(re.findall(r"^\| \d+\.", PAGE, re.MULTILINE))


def test_drawings_match_code():
    for path, text in rooms().drawings().items():
        assert path.read_text() == text
        assert f"({path.name})" in PAGE


@pytest.mark.parametrize("graph", ["core_graph", "package_graph"])
def test_rooms_have_no_cycle(graph):
    dependencies = getattr(rooms(), graph)()
    while dependencies:
        leaves = {room for room, targets in dependencies.items() if not targets}
        assert leaves, f"a cycle among {sorted(dependencies)}"
        dependencies = {
            room: targets - leaves for room, targets in dependencies.items() if room not in leaves
        }

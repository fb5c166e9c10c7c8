"""docs/reference.md has every public module, and their public names have a text."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

PAGE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
MODULES = re.findall(r"^\.\. automodule:: ([\w.]+)$", PAGE, re.MULTILINE)


def public_names(name):
    module = importlib.import_module(name)
    return [each for each in module.__all__ if not inspect.ismodule(getattr(module, each))]


def test_reference_has_each_name_once():
    names = [name for module in MODULES for name in public_names(module)]
    assert len(names) == len(set(names)) > 30
    assert set(re.findall(r"^## ([\w.]+)$", PAGE, re.MULTILINE)) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_public_names_of_module_have_text(name):
    module = importlib.import_module(name)
    for each in public_names(name):
        value = getattr(module, each)
        if not callable(value):
            continue
        assert inspect.getdoc(value)
        for member, part in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and callable(part):
                assert inspect.getdoc(getattr(value, member)), f"{each}.{member}"

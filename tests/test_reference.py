"""docs/reference.md lists every public name once, as the code has them."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

DOCS = Path(__file__).parents[1] / "docs"


def test_reference_page_matches_code():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "reference.md").read_text() == module.page()


def test_reference_page_has_each_name_once_with_text():
    page = (DOCS / "reference.md").read_text()
    names = re.findall(r"^### `[\w.]*?(\w+)[(`]", page, re.MULTILINE)
    assert len(names) == len(set(names)) > 30
    assert not re.search(r"^### .*\n\n\n", page, re.MULTILINE)

"""Names before 1.0: each error has the replacement, which exists."""

import importlib
import inspect
import re

import pytest

import tieralloc as ta
from tieralloc.errors import _RENAMED
from tieralloc.tools.emulated import EmulatedMemory
from tieralloc.trace.recorder import Recorder

KEYWORDS = [name.removesuffix("=") for name in _RENAMED if name.endswith("=")]
ATTRIBUTES = [name for name in _RENAMED if not name.endswith("=") and " " not in name]


@pytest.mark.parametrize("name", KEYWORDS)
def test_former_keyword_raises_with_replacement(tmp_path, name):
    with pytest.raises(TypeError) as caught:
        ta.TieredStore(tmp_path / "emb.tier", fast_rows=8, **{name: 1})
    new = _RENAMED[f"{name}="]
    assert str(caught.value) == f"{name}=: not in the API since tieralloc 1.0; expected {new}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", KEYWORDS)
def test_replacement_of_former_keyword_exists(name):
    if name == "seed":
        return
    place = re.search(r"tieralloc\.(\w+)\(\w+, (\w+)=", _RENAMED[f"{name}="])
    assert place[2] in inspect.signature(getattr(ta, place[1])).parameters
    assert name not in inspect.signature(ta.TieredStore).parameters


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_former_attribute_raises_with_replacement(name):
    owner, _, attribute = name.partition(".")
    where = {"tieralloc": ta, "TieredStore": ta.TieredStore, "Recorder": Recorder}[owner]
    assert not hasattr(where, attribute)
    with pytest.raises(AttributeError, match=re.escape(_RENAMED[name])):
        getattr(where, attribute)
    if _RENAMED[name].startswith("tieralloc."):
        module, _, new = _RENAMED[name].rpartition(".")
        assert callable(getattr(importlib.import_module(module), new))


def test_unknown_keyword_raises_pythons_error(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'fast_row'"):
        ta.TieredStore(tmp_path / "emb.tier", fast_row=8)
    with ta.TieredStore(tmp_path / "emb.tier", fast_rows=8) as store:  # noqa: SIM117
        with pytest.raises(TypeError, match="unexpected keyword argument 'memory'"):
            store.use_policy("lru", memory=1)


def test_constructor_has_at_most_8_keywords():
    parameters = inspect.signature(ta.TieredStore).parameters.values()
    assert sum(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters) <= 8


def test_store_accepts_slow_tier_of_another_module():
    with ta.TieredStore(slow=EmulatedMemory(20), fast_rows=4) as store:
        assert store.stats().slow_tier.is_emulated is True

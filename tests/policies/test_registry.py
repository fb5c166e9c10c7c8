"""Learned policies by name."""

import sys

import pytest

from tieralloc.policies.registry import learned_names, trainer, with_learned


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pytest.importorskip("torch")
    from paper_support import hot_and_cold

    directory = tmp_path_factory.mktemp("policies") / "paper"
    trainer("recmg-paper")(hot_and_cold(200), directory, [0.1], rounds=1)
    return directory


def test_other_policies_stay_names():
    assert with_learned(["lru", "opt", "lru:x"]) == ["lru", "opt", "lru:x"]


def test_a_learned_policy_goes_by_its_name_and_two_by_their_directories(trained):
    spec = f"recmg-paper:{trained}"
    assert with_learned(["lru", spec])[1].name == "recmg-paper"
    again = f"recmg-paper:{trained}/."
    assert [policy.name for policy in with_learned([spec, again])] == [spec, again]


def test_a_learned_policy_needs_its_directory(tmp_path):
    for spec in ("recmg-paper", "recmg-paper:"):
        with pytest.raises(ValueError, match="tieralloc train T --policy recmg-paper --out DIR"):
            with_learned([spec])
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        with_learned([f"recmg-paper:{tmp_path}"])


def test_every_learned_policy_has_a_trainer_and_an_unknown_one_is_named():
    with pytest.raises(ValueError, match="'lru' is unknown; known are recmg-paper"):
        trainer("lru")
    pytest.importorskip("torch")
    assert all(callable(trainer(name)) for name in learned_names())


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("tieralloc.policies.paper")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tieralloc._torch", raising=False)
    monkeypatch.delitem(sys.modules, "tieralloc._scripted", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'tieralloc\[torch\]'"):
        trainer("recmg-paper")

"""Learned policies by name."""

import sys
from contextlib import contextmanager

import pytest
from tieralloc.policies.registry import learned_names, trainer

from tieralloc.policy.registry import with_learned


@pytest.fixture(scope="module", params=learned_names())
def trained(request, tmp_path_factory):
    pytest.importorskip("torch")
    from paper_support import hot_and_cold

    directory = tmp_path_factory.mktemp("policies") / request.param
    trainer(request.param)(hot_and_cold(200), directory, [0.1], epochs=1)
    return f"{request.param}:{directory}"


def test_other_policies_stay_names():
    assert with_learned(["lru", "opt", "lru:x"]) == ["lru", "opt", "lru:x"]


def test_a_learned_policy_goes_by_its_name_and_two_by_their_directories(trained):
    assert with_learned(["lru", trained])[1].name == trained.partition(":")[0]
    again = f"{trained}/."
    assert [policy.name for policy in with_learned([trained, again])] == [trained, again]


@pytest.mark.parametrize("name", learned_names())
def test_a_learned_policy_needs_its_directory(tmp_path, name):
    for spec in (name, f"{name}:"):
        with pytest.raises(
            ValueError, match=f"tieralloc train T --out DIR, then name it {name}:DIR"
        ):
            with_learned([spec])
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        with_learned([f"{name}:{tmp_path}"])


def test_every_learned_policy_has_a_trainer_and_an_unknown_one_is_named():
    with pytest.raises(ValueError, match="'lru' is unknown; known are recmg, recmg-paper"):
        trainer("lru")
    pytest.importorskip("torch")
    assert all(callable(trainer(name)) for name in learned_names())


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("tieralloc.policies.recmg")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tieralloc._common.torch", raising=False)
    monkeypatch.delitem(sys.modules, "tieralloc.policy.scripted", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'tieralloc\[torch\]'"):
        trainer("recmg")


@pytest.mark.parametrize("name", learned_names())
def test_training_takes_one_thread_and_leaves_torch_its_own(tmp_path, name):
    torch = pytest.importorskip("torch")
    from paper_support import hot_and_cold

    seen = []

    @contextmanager
    def watch(what, total, unit):
        yield lambda done, state: seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trainer(name)(hot_and_cold(200), tmp_path, [0.1], epochs=1, progress=watch)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

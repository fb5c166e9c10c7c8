"""The learned policies by name: how each is trained, and how a trained one is loaded.

A policy is named ``NAME:DIR``, DIR being the directory that it was trained into. Nothing that needs
torch is imported before a policy is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc.simulate import LearnedPolicy

if TYPE_CHECKING:
    pass

#: Module and name of what trains each policy, and of what loads it.
_TRAINED_BY = {
    "recmg": ("tieralloc.policies.recmg.learning", "train_policy"),
    "recmg-paper": ("tieralloc.policies.recmg_paper.learning", "train_policy"),
}
_LOADED_BY = {
    "recmg": ("tieralloc.policies.recmg.policy", "RecmgPolicy"),
    "recmg-caching": ("tieralloc.policies.recmg.policy", "RecmgCachingPolicy"),
    "recmg-paper": ("tieralloc.policies.recmg_paper.policy", "PaperPolicy"),
}

#: Policies that run from the directory of another.
_TRAINED_AS = {"recmg-caching": "recmg"}


def learned_names() -> list[str]:
    """Names of the learned policies, in the order they are listed to users."""
    return list(_TRAINED_BY)


def trainer(name: str) -> Callable[..., Any]:
    """Return what trains a policy, such as `tieralloc.policies.recmg_paper.learning.train_policy`.

    It computes on one thread, however many there are.

    Raises
    ------
    ValueError
        For an unknown policy.
    ImportError
        Where torch is missing.
    """
    if name not in _TRAINED_BY:
        known = ", ".join(learned_names())
        raise ValueError(f"learned policy {name!r} is unknown; known are {known}")
    module, function = _TRAINED_BY[name]
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    from tieralloc._torch import one_thread

    return one_thread()(found)


def trained_as(name: str) -> str:
    """Return the policy whose directory a learned policy runs from, which may be its own."""
    return _TRAINED_AS.get(name, name)


def served_names() -> list[str]:
    """Names of the learned policies that a store can run."""
    return list(_LOADED_BY)


def load_policy(name: str, path: str, label: str | None = None) -> LearnedPolicy:
    """Load a trained policy.

    Parameters
    ----------
    name : str
        Of the policy.
    path : str
        Its directory.
    label : str, optional
        Its name in records; without it, `name`.

    Raises
    ------
    ValueError
        For an unknown policy, or a directory that does not hold it.
    OSError
        Where the directory cannot be read.
    ImportError
        Where torch is missing.
    """
    if name not in _LOADED_BY:
        known = ", ".join(_LOADED_BY)
        raise ValueError(f"learned policy {name!r} is unknown; known are {known}")
    module, kind = _LOADED_BY[name]
    loaded: LearnedPolicy = getattr(importlib.import_module(module), kind).load(path, label or name)
    return loaded


def with_learned(policies: Sequence[str]) -> list[str | LearnedPolicy]:
    """Load the learned ones among policies; the others stay names.

    Parameters
    ----------
    policies : sequence of str
        ``NAME``, or ``NAME:DIR`` for a learned one. Records call it ``NAME``, or as it stands here
        where there are several of the name.

    Raises
    ------
    ValueError
        For a learned policy without its directory, or a directory that does not hold it.
    OSError
        Where a directory cannot be read.
    ImportError
        Where torch is missing.
    """
    return [
        _load(policy, label_of(policy, policies))
        if policy.partition(":")[0] in _LOADED_BY
        else policy
        for policy in policies
    ]


def label_of(policy: str, policies: Sequence[str]) -> str:
    """Return what records call one of some policies: ``NAME`` where no other has that name."""
    name = policy.partition(":")[0]
    names = [other.partition(":")[0] for other in policies]
    return name if names.count(name) == 1 else policy


def _load(policy: str, label: str) -> LearnedPolicy:
    name, _, directory = policy.partition(":")
    if not directory:
        raise ValueError(
            f"policy {name} has to be trained first: tieralloc train T --policy {trained_as(name)}"
            f" --out DIR,"
            f" then name it {name}:DIR"
        )
    return load_policy(name, directory, label)

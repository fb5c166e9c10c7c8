"""The learned policies by name: how each is trained, and how a trained one is loaded.

A policy is named ``NAME:DIR``, DIR being the directory that it was trained into. Nothing that needs
torch is imported before a policy is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieralloc._advising import Brain
    from tieralloc.policy_directory import PolicyDirectory
    from tieralloc.simulate import LearnedPolicy

#: Module and name of what trains each policy, and of what loads it.
_TRAINED_BY = {
    "recmg": ("tieralloc.policies.recmg.learning", "train_policy"),
    "recmg-paper": ("tieralloc.policies.paper.learning", "train_policy"),
}
_LOADED_BY = {
    "recmg": ("tieralloc.policies.recmg.policy", "RecmgPolicy"),
    "recmg-caching": ("tieralloc.policies.recmg.policy", "RecmgCachingPolicy"),
    "recmg-paper": ("tieralloc.policies.paper.policy", "PaperPolicy"),
}

#: Policies that run from the directory of another.
_TRAINED_AS = {"recmg-caching": "recmg"}

#: Module and name of what makes the brain of each policy that a store can run.
_SERVED_BY: dict[str, tuple[str, str]] = {
    "recmg": ("tieralloc.policies.recmg.serving", "make_brain"),
    "recmg-caching": ("tieralloc.policies.recmg.serving", "make_caching_brain"),
    "recmg-paper": ("tieralloc.policies.paper.serving", "make_brain"),
}


def learned_names() -> list[str]:
    """Names of the learned policies, in the order they are listed to users."""
    return list(_TRAINED_BY)


def trainer(name: str) -> Callable[..., Any]:
    """Return what trains a policy, such as `tieralloc.policies.paper.learning.train_policy`.

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
    return list(_SERVED_BY)


def brain_maker(name: str) -> Callable[[PolicyDirectory, int, int | None], Brain]:
    """Return what makes a policy's brain of its directory, for a fast tier of so many rows.

    It may take so many bytes to remember with, or as many as it likes (None).

    Raises
    ------
    ValueError
        For a policy that no store can run.
    ImportError
        Where torch is missing.
    """
    if name not in _SERVED_BY:
        known = ", ".join(served_names()) or "none"
        raise ValueError(f"learned policy {name!r} cannot be served; those that can: {known}")
    module, function = _SERVED_BY[name]
    found: Callable[[PolicyDirectory, int, int | None], Brain] = getattr(
        importlib.import_module(module), function
    )
    return found


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
    module, kind = _LOADED_BY[name]
    loaded: LearnedPolicy = getattr(importlib.import_module(module), kind).load(directory, label)
    return loaded

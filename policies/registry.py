"""The learned policies by name: how each is trained, and how a trained one is loaded.

A policy is named ``NAME:DIR``, DIR being the directory that it was trained into. Nothing that needs
torch is imported before a policy is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieralloc.simulate import LearnedPolicy

#: Module and name of what trains each policy, and of what loads it.
_TRAINED_BY = {"recmg-paper": ("tieralloc.policies.paper.learning", "train_policy")}
_LOADED_BY = {"recmg-paper": ("tieralloc.policies.paper.policy", "PaperPolicy")}


def learned_names() -> list[str]:
    """Names of the learned policies, in the order they are listed to users."""
    return list(_TRAINED_BY)


def trainer(name: str) -> Callable[..., Any]:
    """Return what trains a policy, such as `tieralloc.policies.paper.learning.train_policy`.

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
    names = [policy.partition(":")[0] for policy in policies]
    return [
        _load(policy, name if names.count(name) == 1 else policy) if name in _LOADED_BY else policy
        for policy, name in zip(policies, names, strict=True)
    ]


def _load(policy: str, label: str) -> LearnedPolicy:
    name, _, directory = policy.partition(":")
    if not directory:
        raise ValueError(
            f"policy {name} has to be trained first: tieralloc train T --policy {name} --out DIR,"
            f" then name it {name}:DIR"
        )
    module, kind = _LOADED_BY[name]
    loaded: LearnedPolicy = getattr(importlib.import_module(module), kind).load(directory, label)
    return loaded

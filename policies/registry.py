"""The learned policies by name, and how each is trained. Imports no torch until asked for one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

#: Module and name of what trains each policy.
_TRAINED_BY = {
    "recmg": ("tieralloc.policies.recmg.learning", "train_policy"),
    "recmg-paper": ("tieralloc.policies.recmg_paper.learning", "train_policy"),
}


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
    from tieralloc._common.torch import one_thread

    return one_thread()(found)


def trained_as(name: str) -> str:
    """Return the policy whose directory a learned policy runs from, which may be its own."""
    return {"recmg-caching": "recmg"}.get(name, name)

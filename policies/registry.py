"""The learned policies by name, with their training functions. torch is imported by `trainer`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

#: The module whose `train_policy` trains each policy.
_TRAINING_MODULES = {
    "recmg": "tieralloc.policies.recmg.training",
    "recmg-paper": "tieralloc.policies.recmg_paper.training",
}


def learned_names() -> list[str]:
    """Return the names of the learned policies, in display order."""
    return list(_TRAINING_MODULES)


def trainer(name: str) -> Callable[..., Any]:
    """Return the training function of a policy, such as `recmg.training.train_policy`.

    It computes on one thread. ValueError for an unknown policy, ImportError without torch.
    """
    if name not in _TRAINING_MODULES:
        raise ValueError(
            f"policy {name!r}: unknown learned policy; expected one of {', '.join(learned_names())}"
        )
    train_policy: Callable[..., Any] = importlib.import_module(_TRAINING_MODULES[name]).train_policy
    from tieralloc._common.torch import one_thread

    return one_thread()(train_policy)


def trained_as(name: str) -> str:
    """Return the name of the policy whose training writes the directory of a learned policy."""
    return {"recmg-caching": "recmg"}.get(name, name)

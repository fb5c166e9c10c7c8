"""The registry of learned policies: names and loaders.

``NAME:DIR`` is a policy with its directory. Its loader is the entry point NAME of the group
``tieralloc.policies``; other packages can add entry points. A loader is imported at its first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from tieralloc.policy.trained import TrainedPolicy

__all__ = ["label_of", "load_policy", "served_names", "with_learned"]

_GROUP = "tieralloc.policies"


@cache
def _loaders() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 10 ms

    return {loader.name: loader for loader in entry_points(group=_GROUP)}


def served_names() -> list[str]:
    """Return the names of the learned policies that a store can run."""
    return list(_loaders())


def load_policy(name: str, path: str, label: str | None = None) -> TrainedPolicy:
    """Load a trained policy; `label` is its name in records, by default `name`.

    Raises
    ------
    ValueError
        For an unknown policy, or a directory without this policy.
    OSError
        If the directory cannot be read.
    ImportError
        If torch is missing.
    """
    loaders = _loaders()
    if name not in loaders:
        raise ValueError(
            f"policy: unknown learned policy {name!r}; expected one of {', '.join(loaders)}"
        )
    policy: TrainedPolicy = loaders[name].load().load(path, label or name)
    return policy


def with_learned(policies: Sequence[str]) -> list[str | TrainedPolicy]:
    """Return policies with every learned one, ``NAME:DIR``, loaded; simple ones stay names.

    `label_of` gives the name in records. Errors as for `load_policy`.
    """
    return [
        _load(policy, label_of(policy, policies))
        if policy.partition(":")[0] in _loaders()
        else policy
        for policy in policies
    ]


def label_of(policy: str, policies: Sequence[str]) -> str:
    """Return the label of a policy in records: ``NAME`` if it is unique, otherwise `policy`."""
    name = policy.partition(":")[0]
    names = [other.partition(":")[0] for other in policies]
    return name if names.count(name) == 1 else policy


def _load(policy: str, label: str) -> TrainedPolicy:
    name, _, directory = policy.partition(":")
    if not directory:
        raise ValueError(
            f"policy: {name} has no directory; expected {name}:DIR, with DIR from tieralloc train T"
            " --out DIR"
        )
    return load_policy(name, directory, label)

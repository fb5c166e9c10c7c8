"""The learned policies by name, and how a trained one is loaded.

A policy is named ``NAME:DIR``, DIR being the directory that it was trained into. Its loader is the
entry point NAME of the group ``tieralloc.policies``; other packages can add theirs. No loader is
imported before its policy is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieralloc.policy.trained import TrainedPolicy

__all__ = ["label_of", "load_policy", "served_names", "with_learned"]

_GROUP = "tieralloc.policies"


@cache
def _loaders() -> dict[str, EntryPoint]:
    return {loader.name: loader for loader in entry_points(group=_GROUP)}


def served_names() -> list[str]:
    """Names of the learned policies that a store can run."""
    return list(_loaders())


def load_policy(name: str, path: str, label: str | None = None) -> TrainedPolicy:
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
    loaders = _loaders()
    if name not in loaders:
        known = ", ".join(loaders)
        raise ValueError(f"learned policy {name!r} is unknown; known are {known}")
    policy: TrainedPolicy = loaders[name].load().load(path, label or name)
    return policy


def with_learned(policies: Sequence[str]) -> list[str | TrainedPolicy]:
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
        if policy.partition(":")[0] in _loaders()
        else policy
        for policy in policies
    ]


def label_of(policy: str, policies: Sequence[str]) -> str:
    """Return what records call one of some policies: ``NAME`` where no other has that name."""
    name = policy.partition(":")[0]
    names = [other.partition(":")[0] for other in policies]
    return name if names.count(name) == 1 else policy


def _load(policy: str, label: str) -> TrainedPolicy:
    name, _, directory = policy.partition(":")
    if not directory:
        raise ValueError(
            f"policy {name} has to be trained first: run tieralloc train T --out DIR, then name it "
            f"{name}:DIR"
        )
    return load_policy(name, directory, label)

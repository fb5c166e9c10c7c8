"""A learned policy on its way into a store: from its directory, or given as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tieralloc._advising import Brain
from tieralloc._core import eviction_policy_names
from tieralloc.policy_directory import read_policy

if TYPE_CHECKING:
    Tables = Sequence[tuple[str, int]]
    Tiers = Sequence[Mapping[str, int]]

#: The simple policy beside a learned one that names none.
FALLBACK = "s3fifo"


@dataclass(frozen=True)
class Learned:
    """A learned policy that a store may run.

    Parameters
    ----------
    name : str
        What figures call it.
    fallback : str
        The simple policy that decides where it does not.
    brain : callable
        Makes its brain, for tables (name, num_embeddings) and for fast tiers as the core's `view`
        has them; raises ValueError for tables that it was not trained for.
    """

    name: str
    fallback: str
    brain: Callable[[Tables, Tiers], Brain]


def load_learned(policy: str, most_bytes: int | None = None) -> Learned:
    """Read the directory of a policy ``NAME:DIR``, whose setting "fallback" names a simple policy.

    What it remembers may take so many bytes; None: as many as are worth it.

    Raises
    ------
    ValueError
        For an unknown name, or a directory that does not hold the policy.
    OSError
        Where the directory cannot be read.
    ImportError
        Where torch is missing.
    """
    from tieralloc.policies.registry import brain_maker, trained_as

    name, _, path = policy.partition(":")
    make = brain_maker(name)
    directory = read_policy(path)
    held, wanted = directory.manifest.policy, trained_as(name)
    if held != wanted:
        raise ValueError(f"{path} holds policy {held!r}, expected {wanted!r}")
    fallback = directory.manifest.settings.get("fallback", FALLBACK)
    if fallback not in eviction_policy_names():
        known = ", ".join(eviction_policy_names())
        raise ValueError(f"{path} falls back to policy {fallback!r}; known are {known}")

    def brain(tables: Tables, tiers: Tiers) -> Brain:
        directory.check_tables(tables)
        return make(directory, sum(tier["capacity"] for tier in tiers), most_bytes)

    return Learned(policy, fallback, brain)


def given(brain: Brain) -> Learned:
    """Make a policy of a brain that is there, which suits any tables."""
    if not isinstance(brain, Brain):
        raise TypeError(
            f"policy is a {type(brain).__name__}, expected a name, NAME:DIR, or an object with"
            " observe(rows, lengths) and score(rows)"
        )

    def check_and_give(tables: Tables, tiers: Tiers) -> Brain:
        if not tables:
            raise ValueError("the store has no tables yet, whose rows a policy could learn of")
        return brain

    return Learned(type(brain).__name__, FALLBACK, check_and_give)

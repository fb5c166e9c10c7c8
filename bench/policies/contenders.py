"""What is compared: a line of the tables each, in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc.policy.registry import with_learned

if TYPE_CHECKING:
    from tieralloc.policy.trained import TrainedPolicy


@dataclass(frozen=True)
class Simple:
    """A policy that `tieralloc.tools.simulate` knows by name."""

    label: str


@dataclass(frozen=True)
class Foreign:
    """A cache of the package libcachesim, with that package's default parameters."""

    label: str
    kind: str  # its class there
    checks: str = ""  # the simple policy whose counts it has to confirm


@dataclass(frozen=True)
class Learned:
    """A policy that is trained first. Those trained alike share a training."""

    label: str
    trained: str  # as `tieralloc train --policy` names it
    load: Callable[[Path], str | TrainedPolicy]  # from the directory that it was trained into


Contender = Simple | Foreign | Learned

LRU, OPT = "lru", "opt"


def by_name(name: str) -> Callable[[Path], str | TrainedPolicy]:
    """Return what loads a trained policy as ``NAME:DIR`` does on the command line."""
    return lambda directory: with_learned([f"{name}:{directory}"])[0]


CONTENDERS: tuple[Contender, ...] = (
    Simple(LRU),
    Simple("s3fifo"),
    Foreign("CLOCK", "Clock"),
    Foreign("ARC", "ARC"),
    Foreign("SIEVE", "Sieve"),
    Foreign("2Q", "TwoQ"),
    Foreign("W-TinyLFU", "WTinyLFU"),
    Foreign("LHD", "LHD"),
    Foreign("LRB", "LRB"),
    Foreign("3L-Cache", "ThreeLCache"),
    Foreign("lru of libcachesim", "LRU", checks=LRU),
    Foreign("s3fifo of libcachesim", "S3FIFO", checks="s3fifo"),
    Learned("recmg-paper", "recmg-paper", by_name("recmg-paper")),
    Learned("recmg-caching", "recmg", by_name("recmg-caching")),
    Learned("recmg", "recmg", by_name("recmg")),
    Simple(OPT),
)

LABELS = tuple(contender.label for contender in CONTENDERS)

#: The policies that are there already, which a learned one has to beat.
KNOWN = tuple(
    contender.label
    for contender in CONTENDERS
    if (isinstance(contender, Simple) and contender.label != OPT)
    or (isinstance(contender, Foreign) and not contender.checks)
)

LEARNED = tuple(contender.label for contender in CONTENDERS if isinstance(contender, Learned))

#: Those that confirm others, by the label of what they confirm.
CHECKS = {
    contender.checks: contender.label
    for contender in CONTENDERS
    if isinstance(contender, Foreign) and contender.checks
}

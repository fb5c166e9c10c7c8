"""Chooses a rival's settings: fitted on the first part of the training half, judged on its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieralloc.policies.rivals.rival import Rival, Settings, Tier
    from tieralloc.policies.rivals.scene import Scene

#: The share of what is learned from that judges.
JUDGED = 0.2

_PASSES = 2


@dataclass
class Tuned:
    """What tuning came to.

    Parameters
    ----------
    settings : dict
        The best ones.
    miss_ratio : float
        Theirs, on what judges.
    tried : list of (dict, float)
        All settings that were tried, in order, and their miss ratios.
    """

    settings: Settings
    miss_ratio: float
    tried: list[tuple[Settings, float]] = field(default_factory=list)


def defaults(rival: Rival) -> Settings:
    """Return the settings that tuning begins with."""
    return {name: values[0] for name, values in rival.choices.items()}


def tune(
    rival: Rival,
    scene: Scene,
    tier: Tier,
    *,
    report: Callable[[int], Any] = lambda tried: None,
) -> Tuned:
    """Choose settings by coordinate descent: each in turn, the others as they are, twice.

    Parameters
    ----------
    rival : Rival
        What is tuned.
    scene : Scene
        Of what may be learned from, and nothing else; it is judged by what follows its own
        `learned` accesses.
    tier : Tier
        What it is tuned for.
    report : callable
        Called with 1 for each setting tried.

    Raises
    ------
    ValueError
        Where nothing is left to judge by.
    """
    if scene.learned >= len(scene.stream.accesses):
        raise ValueError("there are no accesses to judge settings by, expected one or more")
    known: dict[str, float] = {}
    tried: list[tuple[Settings, float]] = []

    def judge(settings: Settings) -> float:
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            counts = rival.replay(scene, tier, settings, count_from=scene.learned).counts
            known[key] = counts["on_demand_fetches"] / counts["lookups"]
            tried.append((settings, known[key]))
            report(1)
        return known[key]

    best = defaults(rival)
    for _ in range(_PASSES):
        before = best
        for name, values in rival.choices.items():
            # Of equals the first, which is the least surprising.
            best = min(({**best, name: value} for value in values), key=judge)
        if best == before:
            break
    return Tuned(best, judge(best), tried)

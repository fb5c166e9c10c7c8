"""Chooses a baseline's settings by replays of the end of the training half."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieralloc.policies.baselines.baseline import Baseline, Settings, Tier
    from tieralloc.policies.baselines.scene import Scene

#: The share of the accesses to learn from that settings are tested on.
TEST_SHARE = 0.2

_PASSES = 2


@dataclass
class Tuned:
    """The result of tuning.

    Parameters
    ----------
    settings : dict
        The best ones.
    miss_ratio : float
        Theirs, on the accesses tested on.
    tried : list of (dict, float)
        All settings tried, in order, and their miss ratios.
    """

    settings: Settings
    miss_ratio: float
    tried: list[tuple[Settings, float]] = field(default_factory=list)


def defaults(baseline: Baseline) -> Settings:
    """Return the settings that tuning starts with."""
    return {name: values[0] for name, values in baseline.choices.items()}


def tune(
    baseline: Baseline,
    scene: Scene,
    tier: Tier,
    *,
    report: Callable[[int], Any] = lambda tried: None,
) -> Tuned:
    """Choose settings by coordinate descent: each in turn, the others as they are, twice.

    Parameters
    ----------
    baseline : Baseline
        The baseline to tune.
    scene : Scene
        The accesses to learn from alone; settings are tested on what follows its own `learned`
        accesses.
    tier : Tier
        The tier to tune for.
    report : callable
        Called with 1 for each setting tried.

    Raises
    ------
    ValueError
        For no accesses to test on.
    """
    if scene.learned >= len(scene.stream.accesses):
        raise ValueError("there are no accesses to test settings on, expected one or more")
    known: dict[str, float] = {}
    tried: list[tuple[Settings, float]] = []

    def test(settings: Settings) -> float:
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            counts = baseline.replay(scene, tier, settings, count_from=scene.learned).counts
            known[key] = counts["on_demand_fetches"] / counts["lookups"]
            tried.append((settings, known[key]))
            report(1)
        return known[key]

    best = defaults(baseline)
    for _ in range(_PASSES):
        before = best
        for name, values in baseline.choices.items():
            # The first of equals.
            best = min(({**best, name: value} for value in values), key=test)
        if best == before:
            break
    return Tuned(best, test(best), tried)

"""Chooses the settings of a baseline by replays of the end of the training accesses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieralloc.policies.baselines.baseline import Baseline, Settings, Tier
    from tieralloc.policies.baselines.scene import Scene

#: Share of the training accesses that settings are tested on.
TEST_SHARE = 0.2

_MAX_PASSES = 2


@dataclass
class Tuned:
    """The result of tuning."""

    settings: Settings  # the best settings
    miss_ratio: float  # their miss ratio on the test accesses
    #: All settings tested, in order, and their miss ratios.
    tried: list[tuple[Settings, float]] = field(default_factory=list)


def defaults(baseline: Baseline) -> Settings:
    """Return the default settings, with which tuning starts."""
    return {name: values[0] for name, values in baseline.choices.items()}


def tune(baseline: Baseline, scene: Scene, tier: Tier) -> Tuned:
    """Choose settings by coordinate descent: two passes over the settings, one at a time.

    Settings are tested on the accesses after the scene's training accesses; ValueError if there are
    none.
    """
    if scene.num_training >= len(scene.stream.accesses):
        raise ValueError(
            f"num_training: expected fewer than the {len(scene.stream.accesses)} accesses of the"
            f" scene, got {scene.num_training}"
        )
    miss_ratios: dict[str, float] = {}
    tried: list[tuple[Settings, float]] = []

    def test(settings: Settings) -> float:
        key = json.dumps(settings, sort_keys=True)
        if key not in miss_ratios:
            counts = baseline.replay(scene, tier, settings, count_from=scene.num_training).counts
            miss_ratios[key] = counts["on_demand_fetches"] / counts["lookups"]
            tried.append((settings, miss_ratios[key]))
        return miss_ratios[key]

    best = defaults(baseline)
    for _ in range(_MAX_PASSES):
        previous = best
        for name, values in baseline.choices.items():
            best = min(({**best, name: value} for value in values), key=test)  # ties: the first
        if best == previous:
            break
    return Tuned(best, test(best), tried)

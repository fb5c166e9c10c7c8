"""Measures a trace: trains recmg, tunes the baselines, compares all pairs at each capacity.

A record is that of `Comparison.measure` with ``to_lru``, without fields that follow from others and
without zero counts of prefetches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tieralloc.policies.baselines.registry import make_baselines

from bench.paper.compare import PAIRS, RECMG, Comparison, Record
from bench.policies.measure import slim
from bench.scenery.trained import train
from tieralloc import trace as traces

#: Accesses that a prefetch takes in a further comparison, and its capacity.
LAG, LAG_FRACTION = 16, 0.05


@dataclass(frozen=True)
class Setting:
    """Capacities, directory of models, max epochs, and whether baselines are tuned."""

    fast_fractions: tuple[float, ...]
    models: Path
    epochs: int | None = None
    tuned: bool = True


def measure(path: Path, setting: Setting) -> tuple[dict[str, Any], list[Record]]:
    """Return the facts about a trace, and its records."""
    from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

    made = traces.read(path)
    directory, seconds = train(
        made, RECMG, setting.models, fast_fractions=setting.fast_fractions, epochs=setting.epochs
    )
    comparison = Comparison(
        made,
        make_baselines(directory.parent / "transfetch", setting.epochs),
        {
            RECMG: RecmgPolicy.load(directory),
            f"{RECMG}-caching": RecmgCachingPolicy.load(directory, f"{RECMG}-caching"),
        },
        setting.tuned,
    )
    records = [
        *_compare(comparison, setting.fast_fractions, 0),
        *_compare(comparison, (LAG_FRACTION,), LAG),
    ]
    facts = {
        "lookups": made.num_lookups,
        "first_accesses": first_accesses(made.accesses(), comparison.counted),
        "recmg_training_cpu_seconds": seconds,
    }
    return facts, records


def first_accesses(accesses: np.ndarray[Any, Any], counted: int) -> int:
    """Count the accesses from number `counted` on that are the first ones of their rows."""
    _, first = np.unique(accesses, return_index=True)
    return int(np.count_nonzero(first >= counted))


def _compare(comparison: Comparison, fractions: tuple[float, ...], lag: int) -> list[Record]:
    """Measure all pairs at each capacity, and divide their fetches by those of LRU."""
    records = [
        comparison.measure(pair, fraction, lag) for pair in PAIRS.values() for fraction in fractions
    ]
    lru = [record["on_demand_fetches"] for record in records[: len(fractions)]]
    for place, record in enumerate(records):
        record["to_lru"] = record["on_demand_fetches"] / lru[place % len(fractions)]
    return [slim(record, ("hits", "evictions")) for record in records]

"""Measures a trace: trains recmg, tunes the baselines, compares all pairs at each capacity.

A record is that of `bench.paper.compare`, without fields that follow from others and without
zero counts of prefetches.
``settings`` are those that differ from the defaults; ``tuning`` has the number of settings tried,
and the miss ratios of the default and of the best ones on the last fifth of the training half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.tuning import defaults
from tqdm import tqdm

from bench.paper.compare import RECMG, Comparison, cells_of, compare, prefetching_names
from bench.policies.measure import slim
from bench.scenery.traces import COUNT_FROM
from bench.scenery.trained import train
from tieralloc import trace as traces
from tieralloc.trace.stream import first_counted

Record = dict[str, Any]

#: Accesses that a prefetch takes in a further comparison, and its capacity.
LAG, LAG_FRACTION = 16, 0.05

#: The compared pairs, by the name of their policy.
CELLS = {cell.policy: cell for cell in cells_of(("lru", "s3fifo", RECMG), prefetching_names())}

_DROPPED = {
    *("hits", "evictions", "prefetches_useless", "coverage", "accuracy", "lateness", "machine"),
    *("caching", "prefetching"),
}
_CELL = ("caching", "prefetching", "fast_fraction", "prefetch_lag")


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
    baselines = _make_baselines(directory.parent / "transfetch", setting.epochs)
    options = {
        "baselines": baselines,
        "learned": {
            RECMG: RecmgPolicy.load(directory),
            f"{RECMG}-caching": RecmgCachingPolicy.load(directory, f"{RECMG}-caching"),
        },
        "tuned": setting.tuned,
    }
    accesses = made.accesses()
    runs = ((setting.fast_fractions, 0), ((LAG_FRACTION,), LAG))
    total = len(CELLS) * len(accesses) * (len(setting.fast_fractions) + 1)
    records: list[Record] = []
    with tqdm(total=total, desc=path.stem, unit="access", leave=False, disable=None) as bar:
        for fractions, lag in runs:
            options |= {"lag": lag, "progress": bar.update}
            compared = compare(made, [*CELLS.values()], fractions, COUNT_FROM, **options)
            records += _slim(compared, baselines)
    facts = {
        "lookups": len(accesses),
        "first_accesses": first_accesses(accesses, first_counted(len(accesses), COUNT_FROM)),
        "recmg_training_cpu_seconds": seconds,
    }
    return facts, records


def first_accesses(accesses: np.ndarray[Any, Any], counted: int) -> int:
    """Count the accesses from number `counted` on that are the first ones of their rows."""
    _, first = np.unique(accesses, return_index=True)
    return int(np.count_nonzero(first >= counted))


def _make_baselines(checkpoints: Path, epochs: int | None) -> dict[str, Any]:
    baselines: dict[str, Any] = dict(make_baselines(baseline_names(), checkpoints=checkpoints))
    if epochs is not None:
        transfetch = baselines["transfetch"]
        transfetch.training = replace(transfetch.training, epochs=epochs)
    return baselines


def _slim(comparison: Comparison, baselines: Mapping[str, Any]) -> list[Record]:
    """Omit derived fields, and summarize the tuning of each record."""
    tried: dict[tuple[Any, ...], list[float]] = {}
    for each in comparison.tried:
        tried.setdefault(tuple(each[name] for name in _CELL), []).append(each["miss_ratio"])
    records = []
    for record in comparison.records:
        kept = slim(record, _DROPPED)
        if "settings" in kept:
            begin = defaults(baselines[record["prefetching"]])
            kept["settings"] = {k: v for k, v in kept["settings"].items() if v != begin[k]}
        if ratios := tried.get(tuple(record[name] for name in _CELL)):
            kept["tuning"] = [len(ratios), ratios[0], min(ratios)]
        records.append(kept)
    return records

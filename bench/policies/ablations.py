"""Ablations of recmg: each case changes one option of the simulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.policies import study
from bench.policies.measure import Replay
from bench.policies.study import Models, Record, Study
from bench.scenery.traces import FAST_FRACTIONS
from tieralloc import trace as traces
from tieralloc.policy.planned import PREFETCH_COST


@dataclass(frozen=True)
class Variant:
    """A policy, and options of `tieralloc._bindings.Simulator`."""

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)


_COST = {"prefetch_cost": PREFETCH_COST}

VARIANTS = {
    "recmg-caching as it is": Variant("recmg-caching"),
    "no simple policy becomes active": Variant("recmg-caching", {"selects": False}),
    "recmg as it is": Variant("recmg", _COST),
    "a prefetched row costs nothing": Variant("recmg", {"prefetch_cost": 0.0}),
    "a prefetched row costs a tenth of a fetch": Variant("recmg", {"prefetch_cost": 0.1}),
    "a fetch takes 16 accesses": Variant("recmg", {**_COST, "prefetch_lag": 16}),
    "a fetch takes 64 accesses": Variant("recmg", {**_COST, "prefetch_lag": 64}),
}


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Simulate a trace under a variant."""
    from tieralloc.policy.registry import load_policy

    made, variant = traces.read(path), VARIANTS[case]
    replay = Replay(made)
    policy = load_policy(variant.policy, str(models["recmg"]))
    policy.check(made)
    for fraction in FAST_FRACTIONS:
        rows = replay.rows(fraction)
        figures = replay.run(policy.model_for(rows), rows, **variant.options)
        yield {"fast_fraction": fraction, **figures}


def _text(record: Record) -> str:
    prefetched = record["prefetches_per_access"]
    return f"{record['miss_ratio']:.4f}" + (f" ({prefetched:.2f})" if prefetched else "")


STUDY = Study(
    "ablations",
    "On-demand fetches ÷ lookups of the second half of each trace; in brackets prefetches per"
    " access. One seed.",
    measure,
    _text,
    cases=tuple(VARIANTS),
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))

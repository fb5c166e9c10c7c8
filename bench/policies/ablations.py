"""What the main choices in recmg are worth: each taken back in turn, all else as it is.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), replays each trace
with one choice changed, and writes ``ablations.md``. The models stay as they were trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.policies import study
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.report import percent

FRACTIONS = (0.01, 0.1)


@dataclass(frozen=True)
class Variant:
    """A choice taken back.

    Parameters
    ----------
    label : str
        What is changed.
    policy : str
        ``recmg-caching`` or ``recmg``.
    constants : mapping of str to object
        Constants of `tieralloc.policies.recmg.policy` and its `memory`, and what they are instead.
    lag : int
        Accesses for which a row that is fetched ahead is in flight.
    """

    label: str
    policy: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    lag: int = 0


VARIANTS = (
    Variant("recmg-caching as it is", "recmg-caching"),
    Variant("4 rows remembered for each fast one, not 8", "recmg-caching", {"REMEMBERED": 4}),
    Variant("2 rows remembered", "recmg-caching", {"REMEMBERED": 2}),
    Variant(
        "64 residents scored for 4 victims, not 256 for 8",
        "recmg-caching",
        {"CANDIDATES": 64, "VICTIMS": 4},
    ),
    Variant("16 for 4", "recmg-caching", {"CANDIDATES": 16, "VICTIMS": 4}),
    Variant("all horizons weigh the same", "recmg-caching", {"horizon_weights": "equal"}),
    Variant("recmg as it is", "recmg"),
    Variant("64 accesses looked back over for each fast row, not 256", "recmg", {"LOGGED": 64}),
    Variant("fetched from a chance of .02 on, not .04", "recmg", {"LEAST_CHANCE": 0.02}),
    Variant("from .1 on", "recmg", {"LEAST_CHANCE": 0.1}),
    Variant("chance of a use within 32 accesses, not 512", "recmg", {"PREFETCH_HORIZON": 32}),
    Variant("a fetch takes 16 accesses", "recmg", lag=16),
    Variant("a fetch takes 64 accesses", "recmg", lag=64),
)


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Replay a trace under each variant."""
    return [
        Job(f"{variant.label}, {path.stem}", count, (variant, path, directory))
        for variant in VARIANTS
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("ablations", __doc__, jobs_for, table, arguments)


def count(variant: Variant, path: Path, directory: Path, tell: Tell) -> list[dict[str, Any]]:
    """Replay a trace under a variant; return a record for each of `FRACTIONS`."""
    from tieralloc.policies.registry import with_learned
    from tieralloc.simulate import simulate

    tell("replaying")
    with changed(variant):
        policies = with_learned([f"{variant.policy}:{directory}"])
        return simulate(traces.read(path), policies, FRACTIONS)


@contextmanager
def changed(variant: Variant) -> Iterator[None]:
    """Have the policy be as a variant says."""
    import numpy as np

    from tieralloc.policies.recmg import memory, policy

    def equal(horizons: Sequence[int], eviction_age: float) -> Any:
        return np.full(len(horizons), 1 / len(horizons), dtype=np.float32)

    with ExitStack() as stack:
        for name, value in variant.constants.items():
            module = memory if hasattr(memory, name) else policy
            stack.enter_context(patch.object(module, name, equal if value == "equal" else value))
        if variant.lag:
            lagging = _with_lag(policy.ScoredSimulator, variant.lag)
            stack.enter_context(patch.object(policy, "ScoredSimulator", lagging))
        yield


def _with_lag(make: Callable[..., Any], lag: int) -> Callable[..., Any]:
    return lambda *arguments, **options: make(*arguments, **{**options, "lag": lag})


def table(names: Sequence[str], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each variant, a column for each trace and capacity."""
    columns = [(name, place) for name in names for place in range(len(FRACTIONS))]
    head = ["", *(f"{name} {percent(FRACTIONS[place])}" for name, place in columns)]
    lines = [line(head), line(["---"] * len(head))]
    for variant in VARIANTS:
        cells = []
        for name, place in columns:
            record = found[f"{variant.label}, {name}"][place]
            text = f"{record['miss_ratio']:.4f}"
            if variant.policy == "recmg":
                text += f" ({record['prefetches_issued'] / record['lookups']:.2f})"
            cells.append(text)
        is_base = variant.label.endswith("as it is")
        lines.append(line([f"**{variant.label}**" if is_base else variant.label, *cells]))
    return (
        "# What the choices in recmg are worth\n\n"
        "On-demand fetches ÷ lookups of the second half of each trace, and in brackets rows"
        " fetched ahead an access. One seed; `python -m bench.policies.ablations` after"
        " `make policies`.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())

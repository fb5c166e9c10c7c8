"""What the main choices in recmg are worth: each taken back in turn, all else as it is.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), replays each trace
with one choice changed, and writes ``ablations.md``. The models stay as they were trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.policies.__main__ import MODELS, RESULTS, TRACES, traces_in
from bench.policies.jobs import Done, Failed, Job, Tell, run_jobs
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
        Constants of `tieralloc.policies.recmg.policy`, and what they are instead.
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
    Variant("companions of 8 rows for each fast one, not 32", "recmg", {"RELATED": 8}),
    Variant("fetched from a chance of .02 on, not .04", "recmg", {"LEAST_CHANCE": 0.02}),
    Variant("from .1 on", "recmg", {"LEAST_CHANCE": 0.1}),
    Variant("chance of a use within 32 accesses, not 512", "recmg", {"PREFETCH_HORIZON": 32}),
    Variant("a fetch takes 16 accesses", "recmg", lag=16),
    Variant("a fetch takes 64 accesses", "recmg", lag=64),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies.ablations", description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, help="a directory, or a file")
    parser.add_argument("--models", type=Path, default=MODELS, help="where `make policies` trained")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where ablations.md goes")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options = parser.parse_args(arguments)
    trained = {path: _trained(options.models, path) for path in traces_in(options.traces)}
    paths = [path for path, directory in trained.items() if directory is not None]
    if not paths:
        print(f"no policy in {options.models} for a trace of {options.traces}: make policies")
        return 1
    jobs = [
        Job(f"{variant.label}, {path.stem}", count, (variant, path, trained[path]))
        for path in paths
        for variant in VARIANTS
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for job, event in run_jobs(jobs, options.jobs):
        if isinstance(event, Failed):
            print(f"{job.name} FAILED: {event.reason}")
            return 1
        if isinstance(event, Done):
            found[job.name] = event.result
            print(job.name, *(f"{record['miss_ratio']:.4f}" for record in event.result))
            sys.stdout.flush()
    text = table([path.stem for path in paths], found)
    (options.out / "ablations.md").write_text(text)
    print(f"\n{text}")
    return 0


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

    from tieralloc.policies.recmg import policy

    def equal(horizons: Sequence[int], eviction_age: float) -> Any:
        return np.full(len(horizons), 1 / len(horizons), dtype=np.float32)

    with ExitStack() as stack:
        for name, value in variant.constants.items():
            stack.enter_context(patch.object(policy, name, equal if value == "equal" else value))
        if variant.lag:
            lagging = partial(policy.ScoredSimulator, lag=variant.lag)
            stack.enter_context(patch.object(policy, "ScoredSimulator", lagging))
        yield


def table(names: Sequence[str], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each variant, a column for each trace and capacity."""
    columns = [(name, place) for name in names for place in range(len(FRACTIONS))]
    head = ["", *(f"{name} {percent(FRACTIONS[place])}" for name, place in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for variant in VARIANTS:
        cells = []
        for name, place in columns:
            record = found[f"{variant.label}, {name}"][place]
            text = f"{record['miss_ratio']:.4f}"
            if variant.policy == "recmg":
                text += f" ({record['prefetches_issued'] / record['lookups']:.2f})"
            cells.append(text)
        is_base = variant.label.endswith("as it is")
        lines.append(_line([f"**{variant.label}**" if is_base else variant.label, *cells]))
    return (
        "# What the choices in recmg are worth\n\n"
        "On-demand fetches ÷ lookups of the second half of each trace, and in brackets rows"
        " fetched ahead an access. One seed; `python -m bench.policies.ablations` after"
        " `make policies`.\n\n" + "\n".join(lines) + "\n"
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _trained(models: Path, path: Path) -> Path | None:
    """Find where `make policies` trained recmg on a trace, if it did."""
    name = traces.read(path).name
    found = sorted(models.glob(f"{name}-*/recmg-seed0/manifest.json"))
    return found[-1].parent if found else None


if __name__ == "__main__":
    sys.exit(main())

"""What is simulated beside what is served: each policy at work in a store, in a closed loop.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), simulates each trace
and serves it from a file, 16 samples a call, as fast as the store answers, learned policies never
paused, and writes ``served.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.policies import study
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.report import percent

POLICIES = ("lru", "s3fifo", "recmg-caching", "recmg", "recmg-paper")
FRACTION, SAMPLES = 0.05, 16


def count(policy: str, path: Path, directory: Path, tell: Tell) -> dict[str, dict[str, Any]]:
    """Simulate and serve a trace under a policy; return both records."""
    from tieralloc.policies.registry import with_learned
    from tieralloc.replay import replay
    from tieralloc.simulate import simulate

    made = traces.read(path)
    trained = directory.parent / directory.name.replace("recmg", "recmg-paper", 1)
    where = {"recmg-caching": directory, "recmg": directory, "recmg-paper": trained}
    named = f"{policy}:{where[policy]}" if policy in where else policy
    tell("simulating")
    (simulated,) = simulate(made, with_learned([named]), [FRACTION])
    tell("serving")
    (served,) = replay(made, [named], [FRACTION], batch_size=SAMPLES)
    return {"simulated": simulated, "served": served}


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each trace and policy."""
    head = ["trace", "policy", "simulated", "served", "÷", "prefetches, simulated", "served"]
    lines = [line(head), line(["---", "---", *["---:"] * (len(head) - 2)])]
    for name in names:
        for policy in POLICIES:
            both = [found[f"{policy}, {name}"][kind] for kind in ("simulated", "served")]
            misses = [record["on_demand_fetches"] / record["lookups"] for record in both]
            fetched = [record["prefetches_issued"] / record["lookups"] for record in both]
            cells = [f"{each:.4f}" for each in (*misses, misses[1] / misses[0])]
            lines.append(line([name, policy, *cells, *(f"{each:.3f}" for each in fetched)]))
    return (
        "# Served beside simulated\n\n"
        "On-demand fetches ÷ lookups of the second half of each trace, and rows prefetched an"
        f" access, at {percent(FRACTION)}: simulated, and served from a file by {SAMPLES} samples"
        " a call in a closed loop, learned policies at work in the background and never paused."
        " `python -m bench.policies.served` after `make policies`.\n\n" + "\n".join(lines) + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Simulate and serve a trace under each policy."""
    return [Job(f"{policy}, {path.stem}", count, (policy, path, directory)) for policy in POLICIES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("served", __doc__, jobs_for, table, arguments, processes=1)


if __name__ == "__main__":
    sys.exit(main())

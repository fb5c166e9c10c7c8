"""What is simulated beside what is served: each policy at work in a store, in a closed loop.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), simulates each trace by
calls of some samples and serves the same calls from a file, as fast as the store answers, learned
policies never paused, and writes ``served.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bench.policies import study
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.tools.report import percent

POLICIES = ("lru", "s3fifo", "recmg-caching", "recmg", "recmg-paper")
FRACTION = 0.05
SAMPLES = (1, 16)  # of a call


def count(policy: str, path: Path, directory: Path, tell: Tell) -> dict[str, dict[str, Any]]:
    """Simulate and serve a trace under a policy; return the records."""
    from tieralloc.policy.registry import with_learned
    from tieralloc.tools.replay.replay import replay
    from tieralloc.tools.simulate import simulate

    made = traces.read(path)
    trained = directory.parent / directory.name.replace("recmg", "recmg-paper", 1)
    where = {"recmg-caching": directory, "recmg": directory, "recmg-paper": trained}
    named = f"{policy}:{where[policy]}" if policy in where else policy
    records = {}
    for samples in SAMPLES:
        tell(f"simulating calls of {samples}")
        (simulated,) = simulate(made, with_learned([named]), [FRACTION], batch_size=samples)
        tell(f"serving calls of {samples}")
        (served,) = replay(made, [named], [FRACTION], batch_size=samples)
        records |= {f"simulated {samples}": simulated, f"served {samples}": served}
    return records


def table(names: Sequence[str], found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each trace, policy and size of a call."""
    heads = ("simulated", "served", "÷", "prefetches an access, simulated", "served", "lag")
    lines = [line(["trace", "samples a call", "policy", *heads])]
    lines.append(line(["---", "---:", "---", *["---:"] * len(heads)]))
    for name, samples, policy in product(names, SAMPLES, POLICIES):
        both = [found[f"{policy}, {name}"][f"{kind} {samples}"] for kind in ("simulated", "served")]
        misses = [record["miss_ratio"] for record in both]
        fetched = [record["prefetches_issued"] / record["lookups"] for record in both]
        stats = both[1].get("policy_stats")
        cells = [f"{each:.4f}" for each in (*misses, misses[1] / misses[0])]
        cells += [f"{each:.3f}" for each in fetched]
        cells.append(f"{stats['policy_lag']['mean']:,.0f}" if stats else "-")
        lines.append(line([name, str(samples), policy, *cells]))
    return (
        "# Served beside simulated\n\n"
        "On-demand fetches ÷ lookups of the second half of each trace, and rows prefetched an"
        f" access, at {percent(FRACTION)}: simulated by calls, and served from a file in a closed"
        " loop, learned policies at work in the background and never paused. Lag: accesses that"
        " the policy was behind, on average. `python -m bench.policies.served` after `make"
        " policies`.\n\n" + "\n".join(lines) + "\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Simulate and serve a trace under each policy."""
    return [Job(f"{policy}, {path.stem}", count, (policy, path, directory)) for policy in POLICIES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("served", __doc__, jobs_for, table, arguments, processes=1)


if __name__ == "__main__":
    sys.exit(main())

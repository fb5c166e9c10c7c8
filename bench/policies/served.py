"""Simulated and served miss ratios of each policy, in a closed loop.

Simulates each trace by calls of some samples, and serves the same calls from a file as fast as the
store answers, learned policies never paused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.policies import study
from bench.policies.study import Models, Record, Study
from tieralloc import trace as traces
from tieralloc.tools.report import percent

POLICIES = ("lru", "s3fifo", "recmg-caching", "recmg", "recmg-paper")
FRACTION = 0.05
SAMPLES = (1, 16)  # per call


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Simulate and serve a trace under a policy."""
    from tieralloc.policies.registry import trained_as

    from tieralloc.policy.registry import served_names, with_learned
    from tieralloc.tools.replay.replay import replay
    from tieralloc.tools.simulate import simulate

    made = traces.read(path)
    policy = f"{case}:{models[trained_as(case)]}" if case in served_names() else case
    for samples in SAMPLES:
        (simulated,) = simulate(made, with_learned([policy]), [FRACTION], batch_size=samples)
        (served,) = replay(made, [policy], [FRACTION], batch_size=samples)
        stats = served.get("policy_stats")
        yield {
            "samples": samples,
            "simulated": simulated["miss_ratio"],
            "served": served["miss_ratio"],
            "prefetches_simulated": simulated["prefetches_issued"] / simulated["lookups"],
            "prefetches_served": served["prefetches_issued"] / served["lookups"],
            "lag": stats["policy_lag"]["mean"] if stats else None,
        }


def _text(record: Record) -> str:
    text = f"{record['simulated']:.4f}, {record['served']:.4f}"
    return text if "lag" not in record else f"{text}, {record['lag']:,.0f}"


STUDY = Study(
    "served",
    f"On-demand fetches ÷ lookups of the second half of each trace at {percent(FRACTION)}:"
    " simulated, served in a closed loop, and by how many accesses the policy lagged on average.",
    measure,
    _text,
    cases=POLICIES,
    columns=("trace", "samples"),
    policies=("recmg", "recmg-paper"),
    processes=1,
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))

"""Measures policies on a trace: trains the learned ones, replays all of it, counts the second half.

A record is that of `tieralloc.tools.simulate`, with ``cpu_us_per_access`` of the whole replay on
one thread and, of learned policies, ``training_cpu_seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc.policies.registry import trained_as

from bench.policies import libcachesim_caches
from bench.policies.compared import LEARNED, LIBCACHESIM, OPT, SIMPLE
from bench.scenery.processes import Job
from bench.scenery.traces import COUNT_FROM
from bench.scenery.trained import train
from tieralloc import trace as traces
from tieralloc.policy.registry import load_policy
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.simulate import count_record, simulate
from tieralloc.trace.stream import Stream, count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from tieralloc._bindings import PlannedModel
    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.trace import Trace

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Capacities, and how policies are trained, as `bench.scenery.trained.train` takes it."""

    fast_fractions: tuple[float, ...]
    models: Path
    epochs: int | None
    seed: int
    reuse: bool


def jobs_for(path: Path, labels: Set[str], setting: Setting) -> list[Job]:
    """Split the measuring of a trace into jobs, the longest first."""
    trace = path.name.partition(".")[0]
    learned = [label for label in LEARNED if label in labels]
    groups = [
        [label for label in learned if trained_as(label) == policy]
        for policy in dict.fromkeys(map(trained_as, learned))
    ]
    jobs = [Job(f"{', '.join(each)} on {trace}", measure, (path, each, setting)) for each in groups]
    for label in sorted(labels & LIBCACHESIM.keys(), key=lambda label: label != "LRB"):
        jobs.append(Job(f"{label} on {trace}", measure_libcachesim, (path, label, setting)))
    simple = [label for label in (*SIMPLE, OPT) if label in labels]
    if simple:
        jobs.append(Job(f"{', '.join(simple)} on {trace}", measure, (path, simple, setting)))
    return jobs


def measure(path: Path, labels: Sequence[str], setting: Setting) -> list[Record]:
    """Measure policies of tieralloc: simple ones, or those that run from one training."""
    made = traces.read(path)
    policies: Sequence[str | TrainedPolicy] = labels
    seconds = None
    if labels[0] in LEARNED:
        directory, seconds = train(
            made,
            trained_as(labels[0]),
            setting.models,
            fast_fractions=setting.fast_fractions,
            epochs=setting.epochs,
            seed=setting.seed,
            reuse=setting.reuse,
        )
        policies = [load_policy(label, str(directory)) for label in labels]
    records = []
    for policy, fraction in product(policies, setting.fast_fractions):
        began = time.process_time()
        (record,) = simulate(made, [policy], [fraction], COUNT_FROM)
        spent = time.process_time() - began
        record["cpu_us_per_access"] = 1e6 * spent / made.num_lookups
        records.append({**record, "training_cpu_seconds": seconds})
    return records


def measure_libcachesim(path: Path, label: str, setting: Setting) -> list[Record]:
    """Measure a policy of libcachesim, which does not report evictions."""
    replay = Replay(traces.read(path))
    records = []
    for fraction in setting.fast_fractions:
        rows = replay.rows(fraction)
        began = time.process_time()
        counts = libcachesim_caches.count(
            LIBCACHESIM[label], replay.stream.accesses, rows, replay.counted
        )
        spent = time.process_time() - began
        record = count_record(label, replay.name, fraction, rows, {**counts, "evictions": None})
        records.append({**record, "cpu_us_per_access": 1e6 * spent / len(replay.stream.accesses)})
    return records


def slim(record: Record, dropped: Collection[str] = ("hits",)) -> Record:
    """Omit derived fields, and fields of prefetching for policies without it."""
    return {
        key: value
        for key, value in record.items()
        if key not in dropped
        and value is not None
        and (value != 0 or not key.startswith("prefetch"))
    }


class Replay:
    """A trace to replay one access at a time, with options of the simulator.

    The first share `until` of the accesses is replayed; of these the first share `count_from` is
    not counted.
    """

    def __init__(self, made: Trace, until: float = 1.0, count_from: float = COUNT_FROM) -> None:
        self.name = made.name
        self.stream = Stream.of(made, until)
        self.distinct = count_distinct(made.accesses(), self.stream.rows)
        self.counted = first_counted(len(self.stream.accesses), count_from)

    def rows(self, fraction: float) -> int:
        """Return the fast rows of a capacity, a share of the distinct rows of the whole trace."""
        return fast_rows(fraction, self.distinct)

    def run(self, policy: str | PlannedModel, rows: int, **options: Any) -> Record:
        """Simulate a policy; return miss_ratio and prefetches_per_access."""
        counts = run_simulator(self.stream, policy, rows, count_from=self.counted, **options).counts
        return {
            "miss_ratio": counts["on_demand_fetches"] / counts["lookups"],
            "prefetches_per_access": counts.get("prefetches_issued", 0) / counts["lookups"],
        }

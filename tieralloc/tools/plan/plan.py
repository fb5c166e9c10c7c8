"""A plan: miss ratios of policies at budgets, latencies on a device, and the budget for targets."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._common.progress import Progress, silent
from tieralloc.policy.planned import FALLBACK
from tieralloc.tools import machine as _machine
from tieralloc.tools.capacity import bytes_for
from tieralloc.tools.disk import default_directory, file_system_of
from tieralloc.tools.plan.call_times import CallTimes, measure_calls
from tieralloc.tools.plan.curve import Curve, Point, Workload
from tieralloc.tools.plan.latency import predict
from tieralloc.tools.plan.targets import Choice, Target, are_met, choose, needs
from tieralloc.tools.read_speed import measure_reads
from tieralloc.tools.simulate import OPT, check_policies, policy_names
from tieralloc.trace.stream import count_distinct, fast_rows

if TYPE_CHECKING:
    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.trace import Trace

__all__ = ["Plan", "plan"]

#: Planned capacities, as fractions of the distinct rows of the trace.
FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
#: Max error of miss ratios, two standard errors of the sampling.
MAX_ERROR = 0.005
#: Seconds of the measurement of calls.
SECONDS = 4.0
# Refinement between two capacities: their ratio at the end, and the steps at most.
_CLOSE = 1.03
_STEPS = 5


@dataclass(frozen=True)
class Plan:
    """Records by policy and capacity, and the recommended one."""

    trace: str
    records: list[dict[str, Any]]
    targets: list[Target]
    choice: Choice
    device: dict[str, Any]
    load: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "trace": self.trace,
            **self.load,
            "device": self.device,
            "machine": _machine.describe(),
            "targets": [target.text for target in self.targets],
            "recommended": self.choice.record,
            "reasons": self.choice.reasons,
            "records": self.records,
        }


def plan(
    trace: Trace,
    policies: Sequence[str | TrainedPolicy],
    targets: Sequence[Target | str] = (),
    *,
    fast_fractions: Sequence[float] | None = None,
    embedding_dim: int = 64,
    dtype: str = "float32",
    batch_size: int = 256,
    rate: float | None = None,
    count_from: float = 0.5,
    max_error: float = MAX_ERROR,
    seconds: float = SECONDS,
    directory: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Plan:
    """Predict miss ratios and latencies of a store at several budgets, and recommend one.

    A policy decides about all rows of the trace: no table is resident as a whole. One caller serves
    the calls.

    Parameters
    ----------
    trace : Trace
        The accesses to plan for; those before `count_from` warm the fast tier.
    policies : sequence of str or TrainedPolicy
        Eviction policies of a store, and learned policies.
    targets : sequence of Target or str
        Limits that the recommended budget meets: ``p99=2ms``, ``p50=500us``, ``miss-ratio=0.1``,
        ``dram=8GiB``.
    fast_fractions : sequence of float, optional
        Capacities as fractions of the distinct rows of the trace, by default `FRACTIONS`. With
        targets, more are planned between two of them.
    embedding_dim, dtype : int, str
        Of the tables.
    batch_size : int
        Samples per call.
    rate : float, optional
        Calls per second, on a Poisson schedule; latencies count from the arrival. None: the next
        call starts when the previous one is answered.
    count_from : float
        Share of the accesses that warms the fast tier, in [0, 1).
    max_error : float
        Max error of a miss ratio by sampling, two standard errors, above 0.
    seconds : float
        Time to measure calls.
    directory : path, optional
        Where a file is written and read to measure the device, as for `replay`.
    file : path, optional
        An existing table file of the trace's tables to measure instead; it is only read.
    seed : int
        Random seed.
    progress : callable
        Opens progress bars, as ``tieralloc._common.progress.bar`` does.

    Returns
    -------
    Plan
        Each record has policy, trace, fast_fraction, fast_rows, fast_bytes (the budget of a store),
        dram_bytes (with the state of a learned policy), miss_ratio, miss_ratio_error, sample_rate,
        on_demand_reads_per_request, prefetch_reads_per_request, latency_us {p50, p99}, utilisation
        and saturated (latencies are None), unmet (targets).

    Raises
    ------
    ValueError
        For an unknown policy or target, an argument out of range, a trace without counted accesses,
        or a file with other tables.
    OSError
        If a file cannot be written or read.
    """
    limits = [Target.parse(each) if isinstance(each, str) else each for each in targets]
    _check(trace, policies, batch_size, rate, max_error, seconds)
    workload = Workload.of(trace, batch_size, embedding_dim, dtype, count_from)
    distinct = count_distinct(workload.stream.accesses, workload.stream.rows)
    fractions = [each for each in FRACTIONS if each * distinct >= 1]
    capacities = [fast_rows(each, distinct) for each in fast_fractions or fractions]
    curves = [Curve(workload, policy, max_error, seed) for policy in policies]
    planner = _Planner(workload, distinct, limits, rate, seed)
    points = []
    for curve in curves:
        own = sorted({*capacities, *planner.capacity_of_dram(curve)} - {0})
        points.append(curve.points(own, progress))
    where = Path(default_directory() if directory is None else directory)
    with progress("measuring calls", round(1000 * seconds), "ms") as done:
        times = measure_calls(
            workload,
            _max_reads([point for each in points for point in each]),
            directory=where,
            file=None if file is None else Path(file),
            seconds=seconds,
            seed=seed,
            done=done,
        )
    records = []
    for curve, own_points in zip(curves, points, strict=True):
        own_records = [planner.record(point, times) for point in own_points]
        records += planner.refine(curve, own_records, times)
    load = {
        **{"embedding_dim": embedding_dim, "dtype": dtype, "batch_size": batch_size},
        **{"rate": rate, "count_from": count_from, "distinct_rows": distinct},
    }
    device = _describe(where, times) if file is None else _describe_file(Path(file), times)
    return Plan(trace.name, records, limits, choose(records, limits), device, load)


def _check(
    trace: Trace,
    policies: Sequence[str | TrainedPolicy],
    batch_size: int,
    rate: float | None,
    max_error: float,
    seconds: float,
) -> None:
    if trace.num_lookups == 0:
        raise ValueError(f"trace {trace.name!r}: no accesses; expected at least 1")
    if not policies:
        raise ValueError("policies: expected at least one, got none")
    check_policies([policy for policy in policies if isinstance(policy, str)], planned_names())
    for policy in policies:
        if not isinstance(policy, str):
            policy.check(trace)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    positive = {"rate": 1.0 if rate is None else rate, "max_error": max_error, "seconds": seconds}
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected finite and above 0, got {value}")


def planned_names() -> list[str]:
    """Return the names of the simple policies that can be planned."""
    return [name for name in policy_names() if name != OPT]


def _max_reads(points: Sequence[Point]) -> int:
    return int(max(np.quantile(point.reads, 0.999) for point in points))


def _describe(directory: Path, times: CallTimes) -> dict[str, Any]:
    """Return the device of a directory, with the doctor's measurement of reads at depth."""
    speed = measure_reads(directory)
    return {
        "file_system": file_system_of(directory).kind,
        "measured": "temporary file",
        "engine": times.engine,
        "reads_per_second": speed.reads_per_second,
        "reads_in_flight": speed.depth,
        "call_times": times.summary(),
    }


def _describe_file(file: Path, times: CallTimes) -> dict[str, Any]:
    """Return the device of a file, with the reads of its deepest calls."""
    deepest = times.summary()[-1]
    return {
        "file_system": file_system_of(file).kind,
        "measured": "file",
        "engine": times.engine,
        "reads_per_second": 1e6 * deepest["reads"] / deepest["p50_us"],
        "reads_in_flight": round(deepest["reads"]),
        "call_times": times.summary(),
    }


@dataclass(frozen=True)
class _Planner:
    """Makes records of points."""

    workload: Workload
    distinct: int
    targets: Sequence[Target]
    rate: float | None
    seed: int

    def record(self, point: Point, times: CallTimes) -> dict[str, Any]:
        latency = predict(point.reads, times, self.rate, self.seed)
        fast_bytes = self.fast_bytes(point.policy, point.capacity)
        record = {
            "policy": point.policy,
            "trace": self.workload.trace.name,
            "fast_fraction": point.capacity / self.distinct,
            "fast_rows": point.capacity,
            "fast_bytes": fast_bytes,
            "dram_bytes": fast_bytes + point.policy_bytes,
            "miss_ratio": point.miss_ratio,
            "miss_ratio_error": point.miss_ratio_error,
            "sample_rate": point.sample_rate,
            "on_demand_reads_per_request": point.reads_per_call,
            "prefetch_reads_per_request": point.prefetch_reads,
            "latency_us": {"p50": latency.p50_us, "p99": latency.p99_us},
            "utilisation": latency.utilisation,
            "saturated": latency.p50_us is None,
        }
        unmet = [target.text for target in self.targets if not target.is_met(record)]
        return {**record, "unmet": unmet}

    def fast_bytes(self, policy: str, capacity: int) -> int:
        workload = self.workload
        name = policy if policy in planned_names() else FALLBACK
        rows = workload.stream.rows
        return bytes_for(capacity, rows, workload.embedding_dim, name, workload.dtype)

    def capacity_of_dram(self, curve: Curve) -> list[int]:
        """Return the most rows within the least DRAM of the targets, if fewer than all."""
        limits = [target.limit for target in self.targets if target.kind == "dram"]
        if not limits or self.fast_bytes(curve.name, self.distinct) <= min(limits):
            return []
        low, high = 0, self.distinct
        while high - low > max(1, low // 200):
            middle = (low + high) // 2
            if self.fast_bytes(curve.name, middle) <= min(limits):
                low = middle
            else:
                high = middle
        return [low]

    def refine(
        self, curve: Curve, records: list[dict[str, Any]], times: CallTimes
    ) -> list[dict[str, Any]]:
        """Add records between the last capacity that misses a target and the first that meets all.

        DRAM aside, which grows with the capacity.
        """
        wanted = needs(self.targets)
        first = next((i for i, record in enumerate(records) if are_met(wanted, record)), None)
        if not wanted or not first:
            return records
        low, high = (records[i]["fast_rows"] for i in (first - 1, first))
        added = []
        for _ in range(_STEPS):
            middle = round(math.sqrt(low * high))
            if high <= _CLOSE * low or middle in (low, high):
                break
            added.append(self.record(curve.points([middle])[0], times))
            if are_met(wanted, added[-1]):
                high = middle
            else:
                low = middle
        return sorted([*records, *added], key=lambda record: int(record["fast_rows"]))

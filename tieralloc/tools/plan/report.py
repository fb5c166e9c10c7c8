"""A plan as text: the recommendation, the load, the device, and a line per policy and budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tieralloc._common.numbers import format_size
from tieralloc.tools import report
from tieralloc.tools.plan.plan import Plan
from tieralloc.tools.plan.targets import Record, Target, duration
from tieralloc.trace import Trace


def to_text(plan: Plan, trace: Trace) -> str:
    """Return a plan as text."""
    parts = [report.wrap(conclusion(plan))]
    parts.append(report.wrap(f"{trace.name}: {report.trace_summary(trace)}"))
    parts.append(report.align(_conditions(plan), numbers=False))
    parts.append(_table(plan))
    return "\n\n".join(parts)


def conclusion(plan: Plan) -> str:
    """Return one sentence: the recommended budget, or the bounds that exclude all."""
    record, reasons = plan.choice
    if record is not None:
        return f"{_budget(record)} {_merit(plan)}: predicted {_figures(record, plan)}."
    if reasons:
        return f"No budget meets the targets: {'; '.join(reasons)}."
    best = min(plan.records, key=lambda r: (r["miss_ratio"], r["dram_bytes"]))
    least = min(plan.records, key=lambda r: (r["dram_bytes"], r["miss_ratio"]))
    return (
        f"Budgets from {format_size(least['dram_bytes'])} (miss ratio {least['miss_ratio']:.3f}, "
        f"{least['policy']}) to {format_size(best['dram_bytes'])} ({best['miss_ratio']:.3f}, "
        f"{best['policy']}); --target selects one."
    )


def _budget(record: Record) -> str:
    share = report.percent(record["fast_fraction"], 2)
    return (
        f"{record['policy']} with {format_size(record['dram_bytes'])} of DRAM ({share} of the "
        "trace's distinct rows)"
    )


def _merit(plan: Plan) -> str:
    names = " and ".join(target.text for target in plan.targets)
    if all(target.kind == "dram" for target in plan.targets):
        return f"misses least within {names}"
    return f"is the cheapest plan for {names}"


def _figures(record: Record, plan: Plan) -> str:
    kinds = [target.kind for target in plan.targets if target.kind != "dram"] or ["miss-ratio"]
    parts = []
    for kind in dict.fromkeys(kinds):
        target = Target(kind, 0, "")
        name = kind.replace("-", " ")
        parts.append(f"{name} {target.format(target.value(record) or 0.0)}")
    return ", ".join(parts)


def _conditions(plan: Plan) -> list[list[str]]:
    load, device = plan.load, plan.device
    size = load["batch_size"]
    calls = f"{size:,} sample{'s' if size > 1 else ''} per call, one caller, "
    if load["rate"] is None:
        calls += "closed loop: the next call starts when the last is answered"
    else:
        calls += f"{report.rate(load['rate'])} calls/s: Poisson arrivals, latency since arrival"
    return [
        ["calls", calls],
        ["rows", f"{load['embedding_dim']} x {load['dtype']}"],
        ["miss ratios", _sampling(plan.records)],
        [
            "device",
            f"{device['measured']} on {device['file_system']}: "
            f"{report.short(device['reads_per_second'])} reads/s by {device['engine']}, "
            f"{device['reads_in_flight']:,} at a time",
        ],
    ]


def _sampling(records: Sequence[Record]) -> str:
    parts = []
    for policy in dict.fromkeys(record["policy"] for record in records):
        own = [record for record in records if record["policy"] == policy]
        rate, error = own[0]["sample_rate"], max(record["miss_ratio_error"] for record in own)
        if error:
            parts.append(f"{policy}: {report.percent(rate)} of the accesses, ±{error:.4f} at most")
        else:
            parts.append(f"{policy}: all accesses")
    return "; ".join(parts)


def _table(plan: Plan) -> str:
    columns: dict[str, Callable[[Record], str]] = {
        "policy": lambda r: str(r["policy"]),
        "DRAM": lambda r: format_size(r["dram_bytes"]),
        report.FAST_FRACTION: lambda r: report.percent(r["fast_fraction"], 2),
        "miss ratio": lambda r: f"{r['miss_ratio']:.4f}",
        "reads/call": lambda r: (
            f"{r['on_demand_reads_per_request'] + r['prefetch_reads_per_request']:.3g}"
        ),
        "p50": lambda r: _latency(r, "p50"),
        "p99": lambda r: _latency(r, "p99"),
    }
    if plan.load["rate"] is not None:
        columns["busy"] = lambda r: report.percent(r["utilisation"], 3)
    if plan.targets:
        columns["targets"] = lambda r: _mark(r, plan)
    return report.table(plan.records, columns)


def _latency(record: Record, name: str) -> str:
    value: Any = record["latency_us"][name]
    return "saturated" if value is None else duration(value)


def _mark(record: Record, plan: Plan) -> str:
    if record is plan.choice.record:
        return "best"
    return "missed" if record["unmet"] else "met"

"""One sentence that says what records of simulate or replay show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tieralloc.tools.report import device_reads, percent, rate, short

Record = Mapping[str, Any]

_OPT = "opt"
_EQUAL = "as many"


def conclude(records: Sequence[Record], fraction: float | None = None) -> str:
    """Return the conclusion of records at a fast fraction, by default the middle one."""
    fraction = middle_fraction(records) if fraction is None else fraction
    chosen = [r for r in records if r["fast_fraction"] == fraction]
    if any(record.get("loop") == "open" for record in chosen):
        return f"At a fast fraction of {percent(fraction)}, {_sustained(chosen)}."
    if any("rows_per_second" in record for record in chosen):
        chosen += [r for r in records if r["fast_rows"] == 0 and r not in chosen]
        return f"At a fast fraction of {percent(fraction)}, {_served(chosen)}."
    return f"At a fast fraction of {percent(fraction)}, {_counted(chosen)}."


def middle_fraction(records: Sequence[Record]) -> float:
    """Return the middle fast fraction of records, the lower one of two."""
    fractions = sorted({float(r["fast_fraction"]) for r in records if r["fast_rows"]})
    return fractions[(len(fractions) - 1) // 2] if fractions else 0.0


def _counted(records: Sequence[Record]) -> str:
    online = [record for record in records if record["policy"] != _OPT] or list(records)
    best = min(online, key=lambda record: record["miss_ratio"])
    text = f"{best['policy']} misses {percent(best['miss_ratio'], 3)} of the lookups"
    others = [record for record in online if record["policy"] != best["policy"]]
    if others:
        other = min(others, key=lambda record: record["miss_ratio"])
        change = _change(best["miss_ratio"], other["miss_ratio"])
        text += f", {change} {'as' if change == _EQUAL else 'than'} {other['policy']}"
        if best.get("prefetches_issued"):
            text += f" (device reads: {_ratio(device_reads(best), device_reads(other))})"
    optimal = next((record for record in records if record["policy"] == _OPT), None)
    if optimal is not None and optimal is not best:
        without = " and does not prefetch" if best.get("prefetches_issued") else ""
        text += f"; {_OPT}, which knows the future{without}, {percent(optimal['miss_ratio'], 3)}"
    return text


def _served(records: Sequence[Record]) -> str:
    policies = [r for r in records if not is_baseline(r) and "rows_per_second" in r]
    if not policies:
        return _counted(records)
    best = max(policies, key=lambda record: record["rows_per_second"])
    text = f"{best['policy']} serves {short(best['rows_per_second'])} rows/s"
    equal = [r["policy"] for r in policies if r is not best and _overlap(r, best)]
    if equal:
        text += f", {' and '.join(equal)} as many within the quartiles"
    ratios = [
        f"{_times(best['rows_per_second'] / record['rows_per_second'])} {_name(record)}"
        for record in records
        if is_baseline(record) and record.get("rows_per_second")
    ]
    return f"{text}: {', '.join(ratios)}" if ratios else text


def _sustained(records: Sequence[Record]) -> str:
    parts = []
    for policy in dict.fromkeys(record["policy"] for record in records):
        own = [r for r in records if r["policy"] == policy and r["loop"] == "open"]
        sustained = [record for record in own if not record["saturated"]]
        if not sustained:
            lowest = min((record["offered_rate"] for record in own), default=0)
            parts.append(f"{policy} is saturated at {rate(lowest)} calls/s")
            continue
        top = max(sustained, key=lambda record: record["offered_rate"])
        name, value = list(top["latency_us"].items())[-2:][0]
        name = {"p999": "p99.9"}.get(name, name)
        parts.append(f"{policy} sustains {rate(top['offered_rate'])} calls/s ({name} {_ms(value)})")
    return ", ".join(parts)


def learned_gains(records: Sequence[Record], fraction: float | None = None) -> list[str]:
    """Return what each learned policy gains or loses, compared with the fastest simple one.

    Records are those of a closed loop; the fraction is by default the middle one.
    """
    fraction = middle_fraction(records) if fraction is None else fraction
    chosen = [r for r in records if r["fast_fraction"] == fraction and not is_baseline(r)]
    simple = [record for record in chosen if "policy_stats" not in record]
    if not simple:
        return []
    best = max(simple, key=lambda record: record["rows_per_second"])
    return [_gain(record, best) for record in chosen if "policy_stats" in record]


def _gain(own: Record, best: Record) -> str:
    speed = (
        "as many rows/s within the quartiles"
        if _overlap(own, best)
        else f"{_change(own['rows_per_second'], best['rows_per_second'], 'more')} rows/s"
    )
    fetches = _change(own["on_demand_fetches"], best["on_demand_fetches"])
    reads = _change(device_reads(own), device_reads(best))
    dram = own["dram_bytes"] / best["dram_bytes"]
    policy = own["policy_stats"]
    cpu_us = 1e6 * policy["cpu_seconds"] / max(1, policy["accesses_observed"])
    return (
        f"{own['policy']} against {best['policy']}: {fetches} on-demand fetches, {reads} device "
        f"reads, {speed}; it takes {dram:.1f} times the DRAM and {cpu_us:.1f} µs of CPU time per "
        "lookup in a thread of its own."
    )


def is_baseline(record: Record) -> bool:
    """Whether a record is of no policy: a baseline, or a store without a fast tier."""
    return bool(record.get("baseline")) or record["fast_rows"] == 0


def _overlap(a: Record, b: Record) -> bool:
    if "rows_per_second_quartiles" not in a or "rows_per_second_quartiles" not in b:
        return False
    (low, high), (other_low, other_high) = (r["rows_per_second_quartiles"] for r in (a, b))
    return bool(low <= other_high and other_low <= high)


def _name(record: Record) -> str:
    return "no fast tier" if record["fast_rows"] == 0 else record["policy"]


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.3g} ms"


def _times(ratio: float) -> str:
    if ratio < 0.5:
        return f"{percent(ratio, 2)} of"
    return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:,.0f} times"


def _change(value: float, other: float, up: str = "more") -> str:
    if value == other:
        return _EQUAL
    share = abs(value / other - 1) if other else 1.0
    return f"{percent(share, 2)} {'fewer' if value < other else up}"


def _ratio(value: float, other: float) -> str:
    return f"{value / other - 1:+.0%}" if other else f"{value:,}"

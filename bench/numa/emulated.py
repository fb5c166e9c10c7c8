"""Emulated slow tiers of many latencies: what a fast tier is worth, and from where on it pays.

Without a fast tier a lookup takes b + L ns, L being what its row's cache lines take beyond those of
local memory. With one it takes a + m L, m being the miss ratio: a has the search for copies and the
making of them. So a policy pays from L* = (a - b) / (1 - m) on. a and b are measured at the least
latency, L* is worked out of them, and beside it stands the latency at which the two were in fact
equally fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from tieralloc.tools.emulated import EmulatedMemory
from tieralloc.tools.replay.replay import NO_FAST_TIER, replay
from tieralloc.tools.report import align
from tieralloc.trace import Trace

POLICIES = ("lru",)
#: Nanoseconds a cache line. The least one is the base of what is worked out.
EXTRA_NS = (1, 10, 20, 40, 80, 150, 400)
ADMISSIONS = ("always", "auto")
DIM = 64
LINES = DIM * 4 // 64

Record = dict[str, Any]


def run(
    trace: Trace,
    policies: Sequence[str],
    fast_fraction: float,
    *,
    extra_ns: Iterable[float],
    repeats: int,
    progress: Any,
) -> list[Record]:
    """Serve the trace at each latency; everything is repeated as a whole, so that none comes first.

    Returns
    -------
    list of dict
        A record for each latency, admission and policy, "none" being without a fast tier: medians
        of ns_per_lookup and of beside_none (that of "none" in the same repeat ÷ its own, above 1
        where the fast tier pays), miss_ratio, the repeats' own in samples_ns, emulated (True); of a
        learned policy observed_share, the share of all accesses that it observed.
    """
    latencies = list(extra_ns)
    samples: dict[tuple[float, str, str], list[tuple[float, float, Record]]] = {}
    rounds = [(a, x) for _ in range(repeats) for x in latencies for a in ADMISSIONS]
    with progress("emulated latencies", len(rounds), "runs") as done:
        for admission, extra in rounds:
            served = replay(
                trace,
                policies,
                [fast_fraction],
                embedding_dim=DIM,
                slow=EmulatedMemory(extra, promotion=admission),
            )
            base = _ns_per_lookup(served[0])
            for record in served:
                took = _ns_per_lookup(record)
                key = (extra, admission, record["policy"])
                samples.setdefault(key, []).append((took, base / took, record))
            done(1)
    records = []
    for (extra, admission, policy), found in samples.items():
        last = found[-1][2]
        records.append(
            {
                "extra_ns": extra,
                "admission": admission,
                "policy": policy,
                "trace": last["trace"],
                "fast_fraction": last["fast_fraction"],
                "ns_per_lookup": median(took for took, _, _ in found),
                "beside_none": median(ratio for _, ratio, _ in found),
                "miss_ratio": median(record["miss_ratio"] for _, _, record in found),
                "samples_ns": [took for took, _, _ in found],
                "emulated": True,
                "slow_tier": last["slow_tier"],
                "machine": last["machine"],
                **_observed([record for _, _, record in found]),
            }
        )
    return records


def _observed(records: Sequence[Record]) -> dict[str, float]:
    shares = [
        r["policy_stats"]["accesses_observed"] / (r["warm_up_lookups"] + r["lookups"])
        for r in records
        if "policy_stats" in r
    ]
    return {"observed_share": median(shares)} if shares else {}


def _ns_per_lookup(record: Record) -> float:
    """Of the median call, which a machine that does something else besides does not interrupt."""
    return 1000 * float(record["latency_us"]["p50"]) * record["calls"] / record["lookups"]


def break_even(records: Sequence[Record], policy: str) -> tuple[float | None, float | None]:
    """Extra ns a cache line from which on copying always pays: worked out, and as measured.

    None where it never pays, or does already at the least latency that was measured.
    """
    of_policy = _by_latency(records, policy)
    none = _by_latency(records, NO_FAST_TIER)
    least = min(of_policy)
    misses = of_policy[least]["miss_ratio"]
    # What both take at no latency at all.
    a = of_policy[least]["ns_per_lookup"] - misses * LINES * least
    b = none[least]["ns_per_lookup"] - LINES * least
    worked_out = (a - b) / (1 - misses) / LINES if misses < 1 else None
    measured = None
    points = [(extra, record["beside_none"]) for extra, record in sorted(of_policy.items())]
    for (low, before), (high, after) in pairwise(points):
        if before < 1 <= after:
            measured = low + (high - low) * (1 - before) / (after - before)
    return worked_out, measured


def to_markdown(records: Sequence[Record]) -> str:
    """Lay the records out for people: a table, break-even costs, and what it was measured on."""
    policies = [p for p in dict.fromkeys(r["policy"] for r in records) if p != NO_FAST_TIER]
    latencies = sorted({record["extra_ns"] for record in records})
    first = records[0]
    header = ["extra ns", "none, ns"]
    header += [f"{policy} {admission}" for policy in policies for admission in ADMISSIONS]
    lines = [header]
    for extra in latencies:
        cells = {(r["policy"], r["admission"]): r for r in records if r["extra_ns"] == extra}
        none = median(cells[NO_FAST_TIER, admission]["ns_per_lookup"] for admission in ADMISSIONS)
        line = [f"+{extra:g}", f"{none:.0f}"]
        for policy in policies:
            line += [f"{cells[policy, admission]['beside_none']:.2f}" for admission in ADMISSIONS]
        lines.append(line)
    parts = [
        "# An emulated slow tier, with a fast tier and without",
        f"Emulated: local memory with so many extra ns a cache line, {LINES} lines a row, spun one"
        f" after the other. Trace {first['trace']}, {first_fraction(records):.0%} of its distinct"
        " rows in the fast tier, second half counted, one thread, 256 samples a call; a lookup's"
        " time is that of the median call, by its lookups."
        f"\nMachine: {first['machine']}.",
        "Figures are how many times as fast a lookup is as without a fast tier (none): above 1 the"
        " fast tier pays. `always` copies every row that was read in place, `auto` those that are"
        " worth it, and none while trials say that copies do not pay.",
        f"```\n{align(lines, rule_after=1)}\n```",
        "Break-even, extra ns a cache line from which on copying every row pays:",
    ]
    even = [["policy", "miss ratio", "worked out", "measured"]]
    for policy in policies:
        worked_out, measured = break_even(records, policy)
        misses = _by_latency(records, policy)[latencies[0]]["miss_ratio"]
        even.append([policy, f"{misses:.3f}", _ns(worked_out), _ns(measured)])
    parts.append(f"```\n{align(even, rule_after=1)}\n```")
    shares = [r["observed_share"] for r in records if "observed_share" in r]
    if shares:
        parts.append(
            f"The learned policy observed {min(shares):.0%} to {max(shares):.0%} of the accesses of"
            " this closed loop. The others came while it paused, or faster than it takes them."
        )
    return "\n\n".join(parts)


def first_fraction(records: Sequence[Record]) -> float:
    """Return the fast fraction of the records that have a fast tier."""
    return float(next(r["fast_fraction"] for r in records if r["policy"] != NO_FAST_TIER))


def _by_latency(records: Sequence[Record], policy: str) -> dict[float, Record]:
    return {
        r["extra_ns"]: r for r in records if r["policy"] == policy and r["admission"] == "always"
    }


def _ns(value: float | None) -> str:
    return "-" if value is None else f"+{value:.0f} ns"

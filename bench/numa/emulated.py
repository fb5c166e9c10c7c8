"""Emulated slow tiers of many latencies: from which latency on a fast tier pays.

Without a fast tier a lookup takes b + L ns, L being the extra latency of its row's cache lines.
With one it takes a + m L, m being the miss ratio, and a containing the search for copies and the
copying. So a fast tier pays from L* = (a - b) / (1 - m) on. L* is derived from a and b at the min
latency; the latency at which both were measured to be equally fast is reported next to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from statistics import median
from typing import Any

from tqdm import tqdm

from bench.scenery import tables
from tieralloc.numa import EmulatedMemory
from tieralloc.replay import NO_FAST_TIER, replay
from tieralloc.trace import Trace

#: Nanoseconds per cache line; the derivation starts from the first.
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
) -> list[Record]:
    """Serve the trace at each latency; repeats are of the whole, so that none comes first.

    Returns
    -------
    list of dict
        A record for each latency, admission and policy, "none" being without a fast tier: medians
        of ns_per_lookup, of beside_none (that of "none" in the same repeat ÷ its own, above 1
        where the fast tier pays) and of miss_ratio; of a learned policy observed_share, the share
        of all accesses that it observed.
    """
    samples: dict[tuple[float, str, str], list[Record]] = {}
    rounds = list(product(range(repeats), extra_ns, ADMISSIONS))
    for _, extra, admission in tqdm(rounds, desc="emulated latencies", leave=False, disable=None):
        served = replay(
            trace,
            policies,
            [fast_fraction],
            embedding_dim=DIM,
            slow=EmulatedMemory(extra),
            admission=admission,
        )
        base = _ns_per_lookup(served[0])
        for record in served:
            own = _ns_per_lookup(record)
            sample = {
                "ns_per_lookup": own,
                "beside_none": base / own,
                "miss_ratio": record["miss_ratio"],
            }
            if "policy_stats" in record:
                observed = record["policy_stats"]["accesses_observed"]
                lookups = record["warm_up_lookups"] + record["lookups"]
                sample["observed_share"] = observed / lookups
            samples.setdefault((extra, admission, record["policy"]), []).append(sample)
    return [
        {
            "policy": policy,
            "extra_ns": extra,
            "admission": admission,
            **{key: median(sample[key] for sample in found) for key in found[0]},
        }
        for (extra, admission, policy), found in samples.items()
    ]


def _ns_per_lookup(record: Record) -> float:
    """Return the time of the median call per lookup; other processes do not interrupt that one."""
    return 1000 * float(record["latency_us"]["p50"]) * record["calls"] / record["lookups"]


def break_even(records: Sequence[Record], policy: str) -> tuple[float | None, float | None]:
    """Return the extra ns per cache line from which on copying pays: derived, and measured.

    None where it never pays, or pays at the min latency already.
    """
    with_copies = _by_latency(records, policy)
    least = min(with_copies)
    misses = with_copies[least]["miss_ratio"]
    a = with_copies[least]["ns_per_lookup"] - misses * LINES * least
    b = _by_latency(records, NO_FAST_TIER)[least]["ns_per_lookup"] - LINES * least
    derived = (a - b) / (1 - misses) / LINES if misses < 1 else None
    measured = None
    points = [(extra, record["beside_none"]) for extra, record in sorted(with_copies.items())]
    for (low, before), (high, after) in pairwise(points):
        if before < 1 <= after:
            measured = low + (high - low) * (1 - before) / (after - before)
    return derived, measured


def markdown(content: dict[str, Any]) -> str:
    """Lay out a result file: times, break-even latencies, and conditions."""
    records = content["records"]
    policies = [p for p in dict.fromkeys(r["policy"] for r in records) if p != NO_FAST_TIER]
    cells = {(r["extra_ns"], r["admission"], r["policy"]): r for r in records}
    latencies = sorted({record["extra_ns"] for record in records})
    columns = list(product(policies, ADMISSIONS))
    rows = [
        [
            f"+{extra:g}",
            f"{_by_latency(records, NO_FAST_TIER)[extra]['ns_per_lookup']:.0f}",
            *(f"{cells[extra, admission, p]['beside_none']:.2f}" for p, admission in columns),
        ]
        for extra in latencies
    ]
    even = []
    for policy in policies:
        misses = cells[latencies[0], ADMISSIONS[0], policy]["miss_ratio"]
        costs = ("-" if e is None else f"+{e:.0f} ns" for e in break_even(records, policy))
        even.append([policy, f"{misses:.3f}", *costs])
    parts = [
        "# An emulated slow tier, with a fast tier and without",
        f"Emulated: local memory with extra ns per cache line, {LINES} lines a row, spun one after"
        f" the other. Trace {content['trace']}, {content['fast_fraction']:.0%} of its distinct rows"
        " in the fast tier, second half counted, one thread, 256 samples a call, time of the median"
        f" call.\n\n- Command: `{content['command']}`\n- Machine: {content['machine']}",
        "Figures are the time of a lookup without a fast tier ÷ with one: above 1 it pays. `always`"
        " copies every row that is read in place; `auto` copies rows that are worth it.",
        tables.markdown(
            ["extra ns", "none, ns", *(f"{p} {admission}" for p, admission in columns)], rows
        ),
        "Break-even: extra ns per cache line from which on copying every row pays.",
        tables.markdown(["policy", "miss ratio", "derived", "measured"], even),
    ]
    shares = [r["observed_share"] for r in records if "observed_share" in r]
    if shares:
        parts.append(
            f"The learned policy observed {min(shares):.0%} to {max(shares):.0%} of the accesses of"
            " this closed loop; it paused during the others, or they came too fast."
        )
    return "\n\n".join(parts)


def _by_latency(records: Sequence[Record], policy: str) -> dict[float, Record]:
    return {
        r["extra_ns"]: r for r in records if r["policy"] == policy and r["admission"] == "always"
    }

"""Emulated slow tiers of many latencies: the break-even latency of a fast tier.

Without a fast tier a lookup takes b + L ns, L being the extra latency of its row's cache lines.
With one it takes a + m L, m being the miss ratio, and a containing the search for copies and the
copying. A fast tier therefore pays above L* = (a - b) / (1 - m). L* is derived from a and b at the
min latency; the latency at which both were measured to be equally fast is reported next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import median

from bench.policies.study import Models, Record, Study
from bench.scenery.tables import markdown, number
from tieralloc import trace as traces
from tieralloc.tools.emulated import EmulatedMemory
from tieralloc.tools.replay.replay import NO_FAST_TIER, replay

#: Nanoseconds per cache line; the derivation starts from the first.
EXTRA_NS = (1, 10, 20, 40, 80, 150, 400)
PROMOTIONS = ("always", "auto")
FAST_FRACTION = 0.05
DIM = 64
LINES = DIM * 4 // 64
REPEATS = 3


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Serve the trace at each latency; repeats cover all cells, so that no cell is always first."""
    made = traces.read(path)
    samples: dict[tuple[float, str], list[tuple[float, float, float]]] = {}
    for _, extra, promotion in product(range(REPEATS), EXTRA_NS, PROMOTIONS):
        served = replay(
            made,
            ["lru", f"recmg:{models['recmg']}"],
            [FAST_FRACTION],
            embedding_dim=DIM,
            slow=EmulatedMemory(extra, promotion=promotion),
        )
        without = _ns_per_lookup(served[0])
        for record in served:
            policy, own = record["policy"], _ns_per_lookup(record)
            tier = policy if policy == NO_FAST_TIER else f"{policy}, {promotion}"
            sample = own, without / own, record["miss_ratio"]
            samples.setdefault((extra, tier), []).append(sample)
    for (extra, tier), found in samples.items():
        own, ratio, misses = (median(values) for values in zip(*found, strict=True))
        yield {
            "case": f"+{extra} ns",
            "extra_ns": extra,
            "tier": tier,
            "ns_per_lookup": own,
            "times_as_fast": ratio,
            "miss_ratio": misses,
        }


def _ns_per_lookup(record: Record) -> float:
    """Return the time per lookup of the median turn, which other processes rarely interrupt."""
    return 1e9 / float(record["rows_per_second"])


def break_even(records: Sequence[Record], tier: str) -> tuple[float | None, float | None]:
    """Return the break-even extra ns per cache line of a tier: derived, and measured.

    The measured latency is None if the tier never pays, or pays at the min latency.
    """
    first, *_ = with_tier = [record for record in records if record["tier"] == tier]
    none = next(record for record in records if record["tier"] == NO_FAST_TIER)
    misses, least = first["miss_ratio"], first["extra_ns"]
    a = first["ns_per_lookup"] - misses * LINES * least
    b = none["ns_per_lookup"] - LINES * least
    derived = (a - b) / (1 - misses) / LINES if misses < 1 else None
    for low, high in pairwise(with_tier):
        before, after = low["times_as_fast"], high["times_as_fast"]
        if before < 1 <= after:
            step = (high["extra_ns"] - low["extra_ns"]) * (1 - before) / (after - before)
            return derived, low["extra_ns"] + step
    return derived, None


def _summary(records: Sequence[Record]) -> str:
    rows = []
    for trace in dict.fromkeys(record["trace"] for record in records):
        own = [record for record in records if record["trace"] == trace]
        for tier in dict.fromkeys(record["tier"] for record in own):
            if tier.endswith("always"):
                misses = next(r["miss_ratio"] for r in own if r["tier"] == tier)
                costs = map(number, break_even(own, tier))
                rows.append([f"{trace}, {tier}", f"{misses:.3f}", *costs])
    head = ["extra ns from which on it pays", "miss ratio", "derived", "measured"]
    return markdown(head, rows)


STUDY = Study(
    "emulated",
    "An emulated slow tier: local memory with extra ns per cache line, which are spun one after the"
    f" other; {LINES} lines a row, {FAST_FRACTION:.0%} of the distinct rows in the fast tier, one"
    " thread, 256 samples a call. ns of a lookup without a fast tier, and how many times as fast it"
    " is with one: above 1 it pays. `always` copies every row that is read in place.",
    measure,
    lambda record: (
        f"{record['ns_per_lookup']:.0f} ns"
        if record["tier"] == NO_FAST_TIER
        else f"{record['times_as_fast']:.2f}"
    ),
    columns=("trace", "tier"),
    processes=1,
    summary=_summary,
    command="numa",
)

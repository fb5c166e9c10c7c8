"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.dlrm.contenders import IN_DRAM, LRU
from tieralloc._common.numbers import format_size
from tieralloc.tools.report import microseconds, percent, rate

Record = Mapping[str, Any]

_NOTHING = "-"
_IN_STORE = "all in DRAM, store"


def markdown(content: Mapping[str, Any]) -> str:
    """Lay out the content of a result file."""
    records = content["records"]
    settings = content["settings"]
    parts = [
        "# A DLRM served end to end",
        "torchrec's DLRM, its embeddings in a store with a file as slow tier, served on the second"
        " half of each trace; the first half warms the fast tier, and trained the learned policies."
        " Contenders take turns, segment by segment; ratios are of mean times of a request, turn by"
        " turn: median and quartiles. `bench/README.md` says how to read this.",
        _notes(content),
    ]
    for trace in dict.fromkeys(record["trace"] for record in records):
        of_trace = [record for record in records if record["trace"] == trace]
        parts += _of_trace(trace, of_trace, content["traces"].get(trace, {}), settings)
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(content: Mapping[str, Any]) -> str:
    machine, settings = content["machine"], content["settings"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    others = [record["others_busy_cores"] for record in content["records"]]
    lines = [
        f"- Command: `{content['command']}`",
        f"- Machine: {machine['machine']}; disk: {machine['disk']}",
        f"- Packages: {packages}",
        f"- Requests of {settings['batch_size']} samples, rows of {settings['embedding_dim']} x "
        f"float32, {settings['segments']} turns; MLPs {settings['mlps']}",
        *_slower_disk(settings["read_iops"]),
        f"- Others took {min(others):.2f} to {max(others):.2f} cores meanwhile",
    ]
    lines += [f"- Not measured: {what}: {why}" for what, why in content["refused"].items()]
    return "\n".join(lines)


def _slower_disk(read_iops: int | None) -> list[str]:
    if read_iops is None:
        return []
    return [f"- A cgroup has the disk serve {read_iops:,} reads a second at most"]


def _of_trace(
    trace: str, records: Sequence[Record], about: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    parts = [f"## {trace}"]
    if about:
        parts.append(
            f"{about['lookups']:,} lookups counted, of which {about['repeated']:.1%} are of a row"
            f" that the same request asks for before, and {about['compulsory']:.1%} of one that"
            " the trace never asked for before: no cache has it, only what looks at the queue."
        )
    scenes = dict.fromkeys((r["fast_fraction"], r["placement"]) for r in records)
    for fraction, placement in scenes:
        own = [r for r in records if (r["fast_fraction"], r["placement"]) == (fraction, placement)]
        closed = [record for record in own if record["loop"] == "closed"]
        opened = [record for record in own if record["loop"] == "open"]
        title = f"{percent(fraction)} of the rows in DRAM, {placement}"
        if closed:
            parts += [f"### {title}: closed loop", _closed(closed), "Where the time goes:"]
            parts += [_shares(closed), _bounds(closed, about)]
        if opened:
            parts += [f"### {title}: open loop", _opened(opened)]
    return parts


def _closed(records: Sequence[Record]) -> str:
    head = [
        "",
        "miss ratio",
        "fetches ÷ LRU",
        "prefetched: used",
        "late",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "time ÷ LRU",
        "DRAM",
    ]
    base = _find(records, LRU)
    rows = [
        [
            record["policy"],
            f"{record['miss_ratio']:.4f}",
            _over(record, base, lambda r: r["on_demand_fetches"]),
            _of_issued(record, "prefetches_useful"),
            _of_issued(record, "prefetches_late"),
            rate(record["achieved_rate"]),
            f"{record['latency_us']['p50'] / 1000:.2f}",
            f"{record['latency_us']['p99'] / 1000:.2f}",
            _spread(record["time_to_lru"]),
            format_size(record["dram_bytes"]),
        ]
        for record in records
    ]
    return table(head, rows)


def _shares(records: Sequence[Record]) -> str:
    """Lay out the parts of a request's time, and of the CPU that it took, in µs."""
    times = list(records[0]["time_us"])
    takers = list(records[0]["cpu_us"])
    head = ["µs a request", *times, *(f"CPU {taker}" for taker in takers), "policy lag", "active"]
    rows = []
    for record in records:
        whole = sum(record["time_us"].values())
        policy = record.get("policy_stats")
        rows.append(
            [
                record["policy"],
                *(
                    f"{_us(record['time_us'][n])} ({record['time_us'][n] / whole:.0%})"
                    for n in times
                ),
                *(_us(record["cpu_us"][name]) for name in takers),
                f"{policy['policy_lag']['mean']:,.0f}" if policy else _NOTHING,
                _active(policy),
            ]
        )
    return table(head, rows)


def _active(policy: Mapping[str, Any] | None) -> str:
    """Return which policy decides in the end, and which share of the accesses it observed."""
    if policy is None:
        return _NOTHING
    active = "learned"
    if policy["state"] != "running":
        active = policy["state"]
    elif policy["tiers"]:
        active = ", ".join(dict.fromkeys(tier["active"] for tier in policy["tiers"]))
    observed = policy["observed_share"]
    return active + ("" if observed > 0.995 else f", observed {observed:.0%}")


def _bounds(records: Sequence[Record], about: Mapping[str, Any]) -> str:
    """Say what LRU's time is made of, and what is left of it where fewer rows are fetched."""
    lru, dram = _find(records, LRU), _find(records, _IN_STORE)
    if lru is None or dram is None or not lru["on_demand_fetches"]:
        return ""
    fetches = lru["on_demand_fetches"] / lru["calls"]
    hits = dram["time_us"]["embedding"]
    whole = sum(lru["time_us"].values())
    rest = whole - lru["time_us"]["embedding"]
    cost = (lru["time_us"]["embedding"] - hits) / fetches
    lines = [
        f"LRU's request takes {_us(whole)} µs: {_us(rest)} in MLPs and interaction, {_us(hits)} to"
        f" pool rows that are there (as with all in DRAM), and {_us(whole - rest - hits)} for"
        f" {fetches:,.0f} rows from the file, {cost:.1f} each."
    ]
    if about:
        lookups = about["lookups"] / lru["calls"]
        compulsory = about["compulsory"] * lookups
        least = rest + hits + compulsory * cost
        lines.append(
            f"With no misses but the {compulsory:,.0f} compulsory ones it would take"
            f" {least / whole:.2f} of that, with none {(rest + hits) / whole:.2f}."
        )
        opt = about.get("opt", {}).get(str(lru["fast_fraction"]))
        if opt is not None:
            share = (rest + hits + opt * lookups * cost) / whole
            lines.append(
                f"With the misses of OPT, which knows the future and fetches nothing ahead"
                f" ({opt:.4f} of lookups): {share:.2f}."
            )
    return " ".join(lines)


def _opened(records: Sequence[Record]) -> str:
    head = ["", "offered/s", "p50 ms", "p99 ms", "max ms", "latency ÷ LRU", "most waiting", ""]
    rows = [
        [
            record["policy"],
            rate(record["offered_rate"]),
            *(f"{record['latency_us'][name] / 1000:.2f}" for name in ("p50", "p99", "max")),
            _spread(record["time_to_lru"]),
            f"{record['backlog_max']:,}",
            "saturated" if record["saturated"] else "",
        ]
        for record in sorted(records, key=lambda record: record["offered_rate"])
    ]
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table whose first column are names."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _find(records: Sequence[Record], label: str) -> Record | None:
    return next((record for record in records if record["policy"] == label), None)


def _over(record: Record, base: Record | None, value: Callable[[Record], float]) -> str:
    if base is None or not value(base) or record["policy"] == IN_DRAM:
        return _NOTHING
    return f"{value(record) / value(base):.3f}"


def _of_issued(record: Record, name: str) -> str:
    issued = record["prefetches_issued"]
    return f"{record[name] / issued:.0%}" if issued else _NOTHING


def _spread(ratios: Mapping[str, float] | None) -> str:
    if ratios is None:
        return _NOTHING
    return f"{ratios['median']:.3f} [{ratios['low']:.3f}, {ratios['high']:.3f}]"


def _us(value: float) -> str:
    return microseconds(value)

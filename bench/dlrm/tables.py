"""The Markdown page of a result file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.dlrm.baselines import IN_STORE, IN_TORCH, LRU
from bench.scenery import tables
from bench.scenery.results import from_columns
from bench.scenery.turns import Spread
from tieralloc._common.numbers import format_size
from tieralloc.tools.report import microseconds, percent, rate

Record = Mapping[str, Any]


def markdown(content: Mapping[str, Any]) -> str:
    """Lay out the content of a result file."""
    every = from_columns(content)
    parts = [
        f"# {content['title']}",
        *conclusions(every),
        "torchrec's DLRM, its embeddings in a store with a file as slow tier, served on the second"
        " half of each trace; the first half warms the fast tier, and trained the learned policies."
        " Baselines take turns; ratios are of mean latencies, turn by turn: median and quartiles."
        " CPU times are means of a request: of the thread that serves, of the policy's, of others."
        " Rows of int8 and arranged ones have as much DRAM as lru has for rows of float32, with"
        " index, map of the order and policy. The last column has the active policy at the end, the"
        " share of accesses that the learned one observed, and the number of those that it lags.",
        _conditions(content),
    ]
    scenes: dict[tuple[str, float, str], list[Record]] = {}
    for record in every:
        scene = record["trace"], record["fast_fraction"], record["placement"]
        scenes.setdefault(scene, []).append(record)
    for (trace, fraction, placement), records in scenes.items():
        closed = [record for record in records if record["loop"] == "closed"]
        opened = [record for record in records if record["loop"] == "open"]
        title = f"## {trace}, {percent(fraction)} of the distinct rows in DRAM, {placement}"
        if closed:
            parts += [f"{title}: closed loop", _table(_CLOSED, closed)]
        if opened:
            parts += [f"{title}: open loop", _table(_OPEN, opened)]
    return "\n\n".join(part for part in parts if part)


def conclusions(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each trace and placement: the shortest time of a closed loop."""
    closed = [
        record for record in records if record["loop"] == "closed" and record.get("time_to_lru")
    ]
    scenes: dict[tuple[str, str, float], list[Record]] = {}
    for record in closed:
        scene = record["trace"], record["placement"], record["fast_fraction"]
        scenes.setdefault(scene, []).append(record)
    return [_conclusion(*scene, records) for scene, records in scenes.items()]


def _conclusion(trace: str, placement: str, fraction: float, records: Sequence[Record]) -> str:
    times = {record["policy"]: record["time_to_lru"]["median"] for record in records}
    best = min((p for p in times if p not in (IN_TORCH, IN_STORE)), key=times.__getitem__)
    text = f"{trace}, {percent(fraction)} in DRAM, {placement}: {best} takes {times[best]:.2f}"
    floor = f"; {IN_STORE}, {times[IN_STORE]:.2f}" if IN_STORE in times else ""
    return f"{text} of the time of {LRU}{floor}."


def _conditions(content: Mapping[str, Any]) -> str:
    settings = content["settings"]
    packages = ", ".join(f"{name} {version}" for name, version in content["packages"].items())
    lines = [
        f"Command: `{content['command']}`, commit {content['commit']}",
        f"Machine: {content['machine']}; disk: {content['disk']}",
        f"Packages: {packages}",
        f"Requests of {settings['batch_size']} samples, rows of {settings['embedding_dim']} x "
        f"float32, {settings['turns']} turns",
        f"Other processes took up to {content['others_busy_cores']:.2f} cores",
    ]
    lines += [
        f"Scores with rows of int8, {trace}: {difference['max']:.2g} at most from those with"
        f" float32, {difference['mean']:.2g} on average"
        for trace, difference in content.get("score_differences_of_int8", {}).items()
    ]
    lines += [f"Not measured: {what}: {why}" for what, why in content["refused"].items()]
    return "\n".join(f"- {line}" for line in lines)


Column = tuple[str, Callable[[Record], str]]


def _table(columns: Sequence[Column], records: Sequence[Record]) -> str:
    rows = [[record["policy"], *(cell(record) for _, cell in columns)] for record in records]
    return tables.markdown(["", *(head for head, _ in columns)], rows)


def _milliseconds(name: str) -> Callable[[Record], str]:
    return lambda record: f"{record['latency_us'][name] / 1000:.2f}"


def _of_issued(name: str) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        issued = record["prefetches_issued"]
        return f"{record[name] / issued:.0%}" if issued else tables.NONE

    return cell


def _time_to_lru(record: Record) -> str:
    value = record.get("time_to_lru")
    return tables.spread(value and Spread(**value), 3)


def _cpu(name: str) -> Callable[[Record], str]:
    return lambda record: microseconds(record["cpu_us"][name])


def _policy(record: Record) -> str:
    """Return the active policy at the end, the share of accesses that it observed, and its lag."""
    stats = record.get("policy_stats")
    if stats is None:
        return tables.NONE
    active = stats["state"]
    if active == "running":
        active = ", ".join(filter(None, stats["active"])) or "learned"
    return f"{active}, {stats['observed_share']:.0%}, {stats['lag']:,.0f}"


_LATENCY: tuple[Column, ...] = (
    ("p50 ms", _milliseconds("p50")),
    ("p99 ms", _milliseconds("p99")),
    ("latency ÷ LRU", _time_to_lru),
)
_CLOSED: tuple[Column, ...] = (
    ("miss ratio", lambda record: f"{record['miss_ratio']:.4f}"),
    ("prefetches useful", _of_issued("prefetches_useful")),
    ("late", _of_issued("prefetches_late")),
    ("requests/s", lambda record: rate(record["achieved_rate"])),
    *_LATENCY,
    ("in embeddings, µs", lambda record: microseconds(record["time_us"]["embedding"])),
    ("DRAM", lambda record: format_size(record["dram_bytes"])),
    ("CPU serving, µs", _cpu("serving")),
    ("policy", _cpu("policy")),
    ("background", _cpu("background")),
    ("active, observed, lag", _policy),
)
_OPEN: tuple[Column, ...] = (
    ("offered/s", lambda record: rate(record["offered_rate"])),
    *_LATENCY,
    ("", lambda record: "saturated" if record["saturated"] else ""),
)

"""What simulate and replay found, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import replacing
from tieralloc._common.numbers import format_size
from tieralloc.trace import META_REUSE_SHARES, REUSE_BIN_EDGES, reuse_histogram
from tieralloc.trace.stream import count_distinct

if TYPE_CHECKING:
    from tieralloc.trace import Trace

Record = Mapping[str, Any]

_GAP = "  "


def trace_summary(trace: Trace) -> str:
    """Say how large a trace is, in one line."""
    distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
    return (
        f"{trace.num_lookups:,} lookups of {distinct:,} distinct rows, in {trace.num_tables:,} "
        f"table{'s' if trace.num_tables != 1 else ''} of {int(trace.num_embeddings.sum()):,} rows, "
        f"{trace.num_samples:,} sample{'s' if trace.num_samples != 1 else ''}"
    )


def reuse_table(trace: Trace) -> str:
    """Lay out the share of accesses by reuse factor, beside that of Meta's lookups of 2021."""
    edges = [f"{edge:,}" for edge in REUSE_BIN_EDGES[1:]]
    lines = [["accessed up to", "share", "Meta's"]]
    for edge, share, published in zip(
        [*edges, "more"], reuse_histogram(trace), META_REUSE_SHARES, strict=True
    ):
        lines.append([f"{edge:>7}", f"{share:.3f}", f"{published:.3f}"])
    return align(lines, rule_after=1)


def counted_heading(trace: Trace, record: Record) -> str:
    """Say what the figures of a record are of."""
    warming = trace.num_lookups - record["lookups"]
    return (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: {record['lookups']:,} lookups, the {warming:,} before them warm the fast tier"
    )


def miss_ratio_table(records: Sequence[Record]) -> str:
    """Lay out miss ratios: a line for each policy, a column for each capacity."""
    capacities = sorted({(record["fast_fraction"], record["fast_rows"]) for record in records})
    ratios = {
        (record["policy"], record["fast_fraction"]): f"{record['miss_ratio']:.4f}"
        for record in records
    }
    lines = [
        ["fast fraction", *(percent(fraction) for fraction, _ in capacities)],
        ["fast rows", *(f"{rows:,}" for _, rows in capacities)],
    ]
    for policy in _policies(records):
        found = [ratios.get((policy, fraction), "-") for fraction, _ in capacities]
        lines.append([policy, *found])
    return align(lines, rule_after=2)


def validation_table(metrics: Sequence[Mapping[str, float]]) -> str:
    """Lay out the miss ratios that training measured: a line for each, a column a capacity."""
    lines = [
        ["fast fraction", *(percent(metric["fast_fraction"]) for metric in metrics)],
        ["fast rows", *(f"{metric['fast_rows']:,}" for metric in metrics)],
    ]
    for name in metrics[0]:
        if name not in ("fast_fraction", "fast_rows"):
            lines.append([name, *(f"{metric[name]:.4f}" for metric in metrics)])
    return align(lines, rule_after=2)


def replay_table(records: Sequence[Record]) -> str:
    """Lay out what a replay measured: a line for each policy and capacity.

    Records of `simulate` may be among them; what was not measured is a dash. Where a store without
    a fast tier is among them, the last column has the others' rows a second beside its own.
    """
    header = "policy|fast|fast rows|miss ratio|on-demand|rows/s|p50 µs|p99 µs|p99.9 µs|DRAM used"
    lines = [header.split("|")]
    baseline = next((r["rows_per_second"] for r in records if r["fast_rows"] == 0), None)
    if baseline is not None:
        lines[0].append("÷ none")
    for record in records:
        latency = record.get("latency_us", {})
        beside = [] if baseline is None else [_beside(record.get("rows_per_second"), baseline)]
        lines.append(
            [
                record["policy"],
                percent(record["fast_fraction"]),
                f"{record['fast_rows']:,}",
                f"{record['miss_ratio']:.4f}",
                f"{record['on_demand_fetches']:,}",
                _or_dash(record.get("rows_per_second"), lambda rate: f"{rate:,.0f}"),
                *(_or_dash(latency.get(name), microseconds) for name in ("p50", "p99", "p999")),
                _or_dash(record.get("dram_bytes"), format_size),
                *beside,
            ]
        )
    return align(lines, rule_after=1)


def open_loop_heading(trace: Trace, record: Record) -> str:
    """Say what the figures of an open loop are of, which not all lookups need to have reached."""
    warming = record["warm_up_lookups"]
    return (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: calls as they arrive, of the {trace.num_lookups - warming:,} lookups after the "
        f"{warming:,} that warm the fast tier anew for each line"
    )


def open_loop_table(records: Sequence[Record]) -> str:
    """Lay out what an open loop measured: a line for each policy, capacity and rate.

    Records of the closed loop that rates were taken from may be among them.
    """
    header = (
        "policy|fast|calls/s|achieved|calls|miss ratio|p50 µs|p90 µs|p99 µs|p99.9 µs|max µs|backlog"
    )
    lines = [[*header.split("|"), ""]]
    for record in records:
        offered = record["offered_rate"]
        lines.append(
            [
                record["policy"],
                percent(record["fast_fraction"]),
                "closed loop" if offered is None else rate(offered),
                rate(record["achieved_rate"]),
                f"{record['calls']:,}",
                f"{record['miss_ratio']:.4f}",
                *(microseconds(value) for value in record["latency_us"].values()),
                _or_dash(record.get("backlog"), lambda calls: f"{calls:,}"),
                "saturated" if record.get("saturated") else "",
            ]
        )
    return align(lines, rule_after=1)


def replay_conditions(record: Record) -> str:
    """Say what a replay ran with and on."""
    if record["batch_size"] == "row":
        calls = "one row a call"
    else:
        calls = f"{record['batch_size']:,} sample{'s' if record['batch_size'] > 1 else ''} a call"
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    if record["loop"] == "closed":
        load = f"{record['calls']:,} counted, {calls}, {threads}, closed loop"
    else:
        load = f"{calls}, {threads}, open loop: Poisson arrivals, latency from the time of arrival"
    lines = [
        ["calls", load],
        ["rows", f"{record['embedding_dim']} x float32"],
        ["slow tier", record["slow_tier"]],
        ["machine", record["machine"]],
    ]
    if record.get("admission") is not None:
        lines.insert(3, ["admission", _admission(record["admission"])])
    return align(lines, numbers=False)


def _admission(admission: Mapping[str, Any]) -> str:
    slow, fast = admission["slow_line_ns"], admission["fast_line_ns"]
    return (
        f"{admission['rule']}; a cache line takes {slow:.1f} ns in the slow tier, {fast:.1f} ns in "
        f"the fast one (when the store opened, {admission['cost_ratio']:.1f} times)"
    )


def write_json(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Write records as JSON; a file that stands there is replaced once the new one is whole."""
    with replacing(path) as file:
        file.write(to_json(records).encode())


def to_json(records: Sequence[Record]) -> str:
    """Return records as JSON text."""
    return json.dumps(list(records), indent=2) + "\n"


def align(lines: Sequence[Sequence[str]], rule_after: int = 0, numbers: bool = True) -> str:
    """Align columns: the first to the left and, if they are `numbers`, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        first, *rest = line
        cells = [first.ljust(widths[0])]
        for cell, width in zip(rest, widths[1:], strict=True):
            cells.append(cell.rjust(width) if numbers else cell.ljust(width))
        text.append(_GAP.join(cells).rstrip())
    if rule_after:
        text.insert(rule_after, "-" * max(len(line) for line in text))
    return "\n".join(text)


def percent(fraction: float) -> str:
    """Return a fraction as a percentage, with as many digits as it has: ``5%``, ``0.25%``."""
    return f"{100 * fraction:.6g}%"


def microseconds(value: float) -> str:
    """Return microseconds with as many digits as one reads."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def rate(value: float) -> str:
    """Return a rate with as many digits as one reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def _beside(value: float | None, baseline: float) -> str:
    return _or_dash(value, lambda rate: f"{rate / baseline:.2f}")


def _policies(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["policy"] for record in records))

"""Records of simulate and replay, formatted as text tables and as JSON."""

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
    """Return the size of a trace in one line."""
    distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
    return (
        f"{trace.num_lookups:,} lookups of {distinct:,} distinct rows, in {trace.num_tables:,} "
        f"table{'s' if trace.num_tables != 1 else ''} of {int(trace.num_embeddings.sum()):,} rows, "
        f"{trace.num_samples:,} sample{'s' if trace.num_samples != 1 else ''}"
    )


def reuse_table(trace: Trace) -> str:
    """Return a table of the share of accesses by reuse factor, and of Meta's dataset of 2021."""
    edges = [f"{edge:,}" for edge in REUSE_BIN_EDGES[1:]]
    lines = [["accessed up to", "share", "Meta's"]]
    for edge, share, published in zip(
        [*edges, "more"], reuse_histogram(trace), META_REUSE_SHARES, strict=True
    ):
        lines.append([f"{edge:>7}", f"{share:.3f}", f"{published:.3f}"])
    return align(lines, rule_after=1)


def counted_heading(trace: Trace, record: Record) -> str:
    """Return the trace and the counted lookups of a record."""
    warm_up = trace.num_lookups - record["lookups"]
    return (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: {record['lookups']:,} lookups after {warm_up:,} that warm the fast tier"
    )


def miss_ratio_table(records: Sequence[Record]) -> str:
    """Return a table of miss ratios: a line per policy, a column per capacity."""
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
        cells = [ratios.get((policy, fraction), "-") for fraction, _ in capacities]
        lines.append([policy, *cells])
    return align(lines, rule_after=2)


def validation_table(metrics: Sequence[Mapping[str, float]]) -> str:
    """Return a table of the validation miss ratios of training, a column per capacity."""
    lines = [
        ["fast fraction", *(percent(metric["fast_fraction"]) for metric in metrics)],
        ["fast rows", *(f"{metric['fast_rows']:,}" for metric in metrics)],
    ]
    for name in metrics[0]:
        if name not in ("fast_fraction", "fast_rows"):
            lines.append([name, *(f"{metric[name]:.4f}" for metric in metrics)])
    return align(lines, rule_after=2)


def replay_table(records: Sequence[Record]) -> str:
    """Return a table of replay records: a line per policy and capacity.

    Records of `simulate` are allowed; their missing values are dashes. If the records include a
    store without a fast tier, the last column is rows per second relative to that store.
    """
    header = "policy|fast|fast rows|miss ratio|on-demand|rows/s|p50 µs|p99 µs|p99.9 µs|DRAM used"
    lines = [header.split("|")]
    baseline = next((r["rows_per_second"] for r in records if r["fast_rows"] == 0), None)
    if baseline is not None:
        lines[0].append("÷ none")
    for record in records:
        latency = record.get("latency_us", {})
        rows_per_second = record.get("rows_per_second")
        lines.append(
            [
                record["policy"],
                percent(record["fast_fraction"]),
                f"{record['fast_rows']:,}",
                f"{record['miss_ratio']:.4f}",
                f"{record['on_demand_fetches']:,}",
                _or_dash(rows_per_second, lambda rate: f"{rate:,.0f}"),
                *(_or_dash(latency.get(name), microseconds) for name in ("p50", "p99", "p999")),
                _or_dash(record.get("dram_bytes"), format_size),
            ]
        )
        if baseline is not None:
            lines[-1].append(_ratio(rows_per_second, baseline))
    return align(lines, rule_after=1)


def open_loop_heading(trace: Trace, record: Record) -> str:
    """Return the trace and the counted lookups of an open loop."""
    warm_up = record["warm_up_lookups"]
    return (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: calls that arrive, up to {trace.num_lookups - warm_up:,} lookups, after "
        f"{warm_up:,} that warm the fast tier (again for each line)"
    )


def open_loop_table(records: Sequence[Record]) -> str:
    """Return a table of open-loop records: a line per policy, capacity and rate.

    Records of the closed loop that sets the rates are allowed.
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
    """Return the parameters and the machine of a replay."""
    if record["batch_size"] == "row":
        calls = "one row per call"
    else:
        calls = f"{record['batch_size']:,} sample{'s' if record['batch_size'] > 1 else ''} per call"
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    if record["loop"] == "closed":
        load = f"{record['calls']:,} counted, {calls}, {threads}, closed loop"
    else:
        load = f"{calls}, {threads}, open loop: Poisson arrivals, latency since arrival"
    lines = [
        ["calls", load],
        ["rows", f"{record['embedding_dim']} x float32"],
        ["slow tier", record["slow_tier"]],
        ["machine", record["machine"]],
    ]
    if record.get("promotion") is not None:
        lines.insert(3, ["promotion", _promotion(record["promotion"])])
    return align(lines, numbers=False)


def _promotion(promotion: Mapping[str, Any]) -> str:
    slow, fast = promotion["slow_line_ns"], promotion["fast_line_ns"]
    return (
        f"{promotion['rule']}; ns per cache line: {slow:.1f} slow tier, {fast:.1f} fast tier "
        f"(ratio {promotion['cost_ratio']:.1f}, measured when the store opened)"
    )


def write_json(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Write records as JSON; an existing file is replaced atomically."""
    with replacing(path) as file:
        file.write(to_json(records).encode())


def to_json(records: Sequence[Record]) -> str:
    """Return records as JSON text."""
    return json.dumps(list(records), indent=2) + "\n"


def align(lines: Sequence[Sequence[str]], rule_after: int = 0, numbers: bool = True) -> str:
    """Align columns: the first to the left, the others to the right if they are `numbers`."""
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
    """Return a fraction as a percentage of up to 6 digits: ``5%``, ``0.25%``."""
    return f"{100 * fraction:.6g}%"


def microseconds(value: float) -> str:
    """Return microseconds: one decimal below 100, integers from 100."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def rate(value: float) -> str:
    """Return a rate: 3 significant digits below 100, integers from 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def _ratio(value: float | None, baseline: float) -> str:
    return _or_dash(value, lambda rate: f"{rate / baseline:.2f}")


def _policies(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["policy"] for record in records))

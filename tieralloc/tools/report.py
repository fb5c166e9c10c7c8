"""Records of simulate and replay, formatted as text tables and as JSON."""

from __future__ import annotations

import json
import math
import os
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tieralloc._common.files import replacing
from tieralloc._common.numbers import format_size
from tieralloc.trace import META_REUSE_SHARES, REUSE_BIN_EDGES, reuse_histogram
from tieralloc.trace.stream import count_distinct

if TYPE_CHECKING:
    from tieralloc.trace import Trace

Record = Mapping[str, Any]

T = TypeVar("T")

#: Heading of fast fractions: rows in the fast tier ÷ distinct rows of the trace.
FAST_FRACTION = "fast ÷ distinct"
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
    lines = (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: {record['lookups']:,} lookups after {warm_up:,} that warm the fast tier"
    )
    return "\n".join(map(wrap, lines.splitlines()))


def miss_ratio_table(records: Sequence[Record]) -> str:
    """Return a table of miss ratios: a line per policy, a column per capacity.

    Policies that prefetch have another line: device reads ÷ lookups.
    """
    capacities = sorted({(record["fast_fraction"], record["fast_rows"]) for record in records})
    found = {(record["policy"], record["fast_fraction"]): record for record in records}
    lines = [
        [FAST_FRACTION, *(percent(fraction) for fraction, _ in capacities)],
        ["fast rows", *(f"{rows:,}" for _, rows in capacities)],
    ]
    for policy in _policies(records):
        own = [found.get((policy, fraction)) for fraction, _ in capacities]
        lines.append([policy, *(_or_dash(r, lambda r: f"{r['miss_ratio']:.4f}") for r in own)])
        if any(record and record.get("prefetches_issued") for record in own):
            reads = (_or_dash(r, lambda r: f"{reads_ratio(r):.4f}") for r in own)
            lines.append([f"{policy}: reads", *reads])
    return align(lines, rule_after=2)


def device_reads_table(records: Sequence[Record]) -> str:
    """Return a table of device reads per request: a line per policy, a column per capacity.

    Policies that prefetch have another line for the pages that prefetches read.
    """
    first = records[0]
    capacities = sorted({record["fast_fraction"] for record in records})
    found = {(record["policy"], record["fast_fraction"]): record for record in records}
    lines = [["device reads per request", *map(percent, capacities)]]
    for policy in _policies(records):
        own = [found.get((policy, fraction)) for fraction in capacities]
        kinds = {policy: "on_demand_device_reads"}
        if any(record and record.get("prefetches_issued") for record in own):
            kinds[f"{policy}: prefetches"] = "prefetch_device_reads"
        for heading, kind in kinds.items():
            values = (_or_dash(r, lambda r, kind=kind: f"{_per_request(r, kind):.3f}") for r in own)  # type: ignore[misc]
            lines.append([heading, *values])
    dim, dtype = first["embedding_dim"], first["dtype"]
    heading = (
        f"requests: {first['calls']:,} of {first['batch_size']:,} "
        f"sample{'s' if first['batch_size'] > 1 else ''}; pages: {first['rows_per_page']:,} "
        f"row{'s' if first['rows_per_page'] > 1 else ''} of {dim:,} x {dtype}"
    )
    return f"{wrap(heading)}\n{align(lines, rule_after=1)}"


def _per_request(record: Record, kind: str) -> float:
    return record[kind] / record["calls"] if record["calls"] else 0.0


def validation_table(metrics: Sequence[Mapping[str, float]]) -> str:
    """Return a table of the validation miss ratios of training, a column per capacity."""
    lines = [
        [FAST_FRACTION, *(percent(metric["fast_fraction"]) for metric in metrics)],
        ["fast rows", *(f"{metric['fast_rows']:,}" for metric in metrics)],
    ]
    for name in metrics[0]:
        if name not in ("fast_fraction", "fast_rows"):
            lines.append([name, *(f"{metric[name]:.4f}" for metric in metrics)])
    return align(lines, rule_after=2)


def replay_table(records: Sequence[Record]) -> str:
    """Return a table of replay records for each capacity: a line per policy.

    Records of `simulate` are allowed; their missing values are dashes. If the records include a
    store without a fast tier, the last column is rows per second relative to that store.
    """
    without = [record for record in records if record["fast_rows"] == 0]
    others = [record for record in records if record["fast_rows"] > 0]
    tables = []
    for fraction in sorted({record["fast_fraction"] for record in others or without}):
        own = [record for record in others if record["fast_fraction"] == fraction]
        rows = max((r["fast_rows"] for r in own if not r.get("baseline")), default=0)
        heading = f"{percent(fraction)} of the trace's distinct rows in the fast tier: {rows:,}"
        tables.append(f"{heading}\n\n{_capacity_table([*without, *own])}")
    return "\n\n".join(tables)


def _capacity_table(records: Sequence[Record]) -> str:
    columns: dict[str, Callable[[Record], str]] = {
        "policy": lambda r: str(r["policy"]),
        "DRAM": lambda r: _or_dash(r.get("dram_bytes"), format_size),
        "rows/s": lambda r: _or_dash(r.get("rows_per_second"), short),
        "quartiles": lambda r: _or_dash(
            r.get("rows_per_second_quartiles"), lambda pair: "-".join(map(short, pair))
        ),
        **_percentile_columns(records, ("p50", "p99", "p999")),
        **_count_columns(),
    }
    baseline = next((r["rows_per_second"] for r in records if r["fast_rows"] == 0), None)
    if baseline is not None:
        columns["÷ none"] = lambda r: _ratio(r.get("rows_per_second"), baseline)
    return table(records, columns)


def _count_columns() -> dict[str, Callable[[Record], str]]:
    """Return columns of shares of the lookups: baselines may have served fewer of them."""
    return {
        "miss ratio": lambda r: f"{r['miss_ratio']:.4f}",
        "device reads": lambda r: f"{reads_ratio(r):.4f}",
        "per request": lambda r: _or_dash(
            r.get("device_reads_per_request"), lambda reads: f"{reads:.3g}"
        ),
    }


def _percentile_columns(
    records: Sequence[Record], names: Sequence[str]
) -> dict[str, Callable[[Record], str]]:
    """Return a column for each percentile that a record has: others had too few calls."""
    return {
        f"{name.replace('p999', 'p99.9')} µs": lambda r, name=name: _or_dash(  # type: ignore[misc]
            r.get("latency_us", {}).get(name), microseconds
        )
        for name in names
        if any(name in record.get("latency_us", {}) for record in records)
    }


def table(
    records: Sequence[Record],
    columns: Mapping[str, Callable[[Record], str]],
    width: int | None = None,
) -> str:
    """Return a table: a line per record, a column per heading."""
    lines = [[cell(record) for cell in columns.values()] for record in records]
    return align([list(columns), *lines], rule_after=1, width=width)


def open_loop_heading(trace: Trace, record: Record) -> str:
    """Return the trace and the counted lookups of an open loop."""
    warm_up = record["warm_up_lookups"]
    lines = (
        f"{trace.name}: {trace_summary(trace)}\n"
        f"counted: calls that arrive, up to {trace.num_lookups - warm_up:,} lookups, after "
        f"{warm_up:,} that warm the fast tier (again for each line)"
    )
    return "\n".join(map(wrap, lines.splitlines()))


def open_loop_table(records: Sequence[Record], width: int | None = None) -> str:
    """Return a table of open-loop records: a line per policy, capacity and rate.

    Records of the closed loop that sets the rates are allowed.
    """
    columns: dict[str, Callable[[Record], str]] = {
        "policy": lambda r: str(r["policy"]),
        FAST_FRACTION: lambda r: percent(r["fast_fraction"]),
        "calls/s": lambda r: _or_dash(r["offered_rate"], rate, "closed loop"),
        "achieved": lambda r: rate(r["achieved_rate"]),
        "calls": lambda r: f"{r['calls']:,}",
        **_count_columns(),
        **_percentile_columns(records, ("p50",)),
        "p50 quartiles": lambda r: _or_dash(
            r.get("latency_us_quartiles", {}).get("p50"),
            lambda pair: "-".join(map(microseconds, pair)),
        ),
        **_percentile_columns(records, ("p90", "p99", "p999", "max")),
        "backlog": lambda r: _or_dash(r.get("backlog"), lambda calls: f"{calls:,}"),
        "": lambda r: "saturated" if r.get("saturated") else "",
    }
    return table(records, columns, width)


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
    if record["loop"] == "closed" and record["turns"] > 1:
        load += f", in {record['turns']} turns of all contenders"
    lines = [
        ["calls", load],
        ["rows", f"{record['embedding_dim']} x {record.get('dtype', 'float32')}"],
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


def write_json(records: Sequence[Record] | Record, path: str | os.PathLike[str]) -> None:
    """Write records, or one record, as JSON; an existing file is replaced atomically."""
    with replacing(path) as file:
        file.write(to_json(records).encode())


def to_json(records: Sequence[Record] | Record) -> str:
    """Return records, or one record, as JSON text."""
    return json.dumps(records, indent=2) + "\n"


def align(
    lines: Sequence[Sequence[str]],
    rule_after: int = 0,
    numbers: bool = True,
    width: int | None = None,
) -> str:
    """Align columns: the first to the left, the others to the right if they are `numbers`.

    Beyond `width`, by default that of the terminal, columns of numbers go to another table below,
    with the first column, and the text of a last column breaks.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    width = _terminal_width() if width is None else width
    if not numbers:
        return _align_text(lines, widths, width)
    parts: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[other] + len(_GAP) for other in parts[-1])
        if len(parts[-1]) > 1 and taken + widths[column] > width:
            parts.append([0])
        parts[-1].append(column)
    return "\n\n".join(_align_numbers(lines, widths, part, rule_after) for part in parts)


def _align_text(lines: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> str:
    indent = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    text = []
    for line in lines:
        head = _GAP.join(cell.ljust(size) for cell, size in zip(line, widths[:-1], strict=False))
        parts = textwrap.wrap(line[-1], max(20, width - indent)) or [""]
        text.append(f"{head}{_GAP}{parts[0]}".rstrip())
        text += [" " * indent + part for part in parts[1:]]
    return "\n".join(text)


def _align_numbers(
    lines: Sequence[Sequence[str]], widths: Sequence[int], columns: Sequence[int], rule_after: int
) -> str:
    text = []
    for line in lines:
        cells = [
            line[column].rjust(widths[column]) if column else line[column].ljust(widths[column])
            for column in columns
        ]
        text.append(_GAP.join(cells).rstrip())
    if rule_after:
        text.insert(rule_after, "-" * max(len(line) for line in text))
    return "\n".join(text)


def _terminal_width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def wrap(text: str) -> str:
    """Break a paragraph at the width of the terminal, at most 100."""
    return textwrap.fill(text, width=min(100, _terminal_width()))


def device_reads(record: Record) -> int:
    """Return the pages read from the slow tier, on demand or by prefetches.

    Records of earlier versions count rows instead.
    """
    counted = record.get("device_reads")
    if counted is not None:
        return int(counted)
    prefetched = (record.get("prefetches_issued") or 0) - (record.get("prefetches_late") or 0)
    return int(record["on_demand_fetches"] + prefetched)


def reads_ratio(record: Record) -> float:
    """Return device reads ÷ lookups."""
    return device_reads(record) / record["lookups"] if record["lookups"] else 0.0


def percent(fraction: float, digits: int = 4) -> str:
    """Return a fraction as a percentage of up to 4 digits: ``5%``, ``0.25%``."""
    value = 100 * fraction
    return f"{value:,.0f}%" if value >= 10**digits else f"{value:.{digits}g}%"


def short(value: float) -> str:
    """Return a number with 3 digits and a unit: ``155k``, ``8.21M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = max(0, 2 - math.floor(math.log10(max(value / size, 1) * 1.0006)))
            return f"{value / size:.{digits}f}{unit}"
    return f"{value:.3g}"


def microseconds(value: float) -> str:
    """Return microseconds: one decimal below 100, integers from 100."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def rate(value: float) -> str:
    """Return a rate: 3 significant digits below 100, integers from 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _or_dash(value: T | None, text: Callable[[T], str], missing: str = "-") -> str:
    return missing if value is None else text(value)


def _ratio(value: float | None, baseline: float) -> str:
    return _or_dash(value, lambda rate: f"{rate / baseline:.2f}")


def _policies(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["policy"] for record in records))

"""Records of `tieralloc.tools.latency` as matrices: text and heat maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import replacing
from tieralloc._common.numbers import format_size
from tieralloc.tools.report import align, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]
Metric = Callable[[Record], Mapping[str, float]]


def matrices(records: Sequence[Record]) -> str:
    """Return a matrix per metric, with median and quartiles in each cell."""
    first = records[0]
    parts = [wrap(conclude(records)), _conditions(records)]
    if len({(_origin(record), record["node"]) for record in records}) == 1:
        parts.append("Only one node and one set of CPUs: no remote memory to compare.")
    parts += [
        f"warning: {record['pages_elsewhere']:,} pages of node {record['node']} are on other nodes"
        for record in records
        if record["pages_elsewhere"]
    ]
    parts.append(_matrix("dependent load, ns", records, lambda r: r["load_ns"], 1))
    parts.append(_matrix("streams, GB/s", records, lambda r: r["bytes_per_second"], 1e9))
    for row in first["gather_ns"]:
        title = f"gathered rows of {row} bytes, ns per row"
        parts.append(_matrix(title, records, lambda r, row=row: r["gather_ns"][row], 1))  # type: ignore[misc]
    title = "lookup of rows of 256 bytes in place, ns per row"
    parts.append(_matrix(title, records, lambda r: r["lookup_ns"], 1))
    return "\n\n".join(parts)


def conclude(records: Sequence[Record]) -> str:
    """Return the dependent loads of the nearest and the farthest memory, in one sentence."""
    near = min(records, key=lambda record: float(record["load_ns"]["median"]))
    far = max(records, key=lambda record: float(record["load_ns"]["median"]))
    text = f"A dependent load takes {near['load_ns']['median']:.0f} ns from node {near['node']}"
    if far is not near:
        far_ns = far["load_ns"]["median"]
        text += (
            f" and {far_ns:.0f} ns from node {far['node']} at most, "
            f"{far_ns / near['load_ns']['median']:.1f} times as much"
        )
    return f"{text}."


def emulation_table(records: Sequence[Record]) -> str:
    """Return a table that compares emulated latencies with measurements."""
    lines = [["emulated", "load ns", "with extra", "measured", "deviation", "within 10%"]]
    for record in records:
        lines.append(
            [
                f"+{record['extra_ns']:g} ns",
                f"{record['load_ns']['median']:.1f}",
                f"{record['load_with_extra_ns']['median']:.1f}",
                f"+{record['measured_ns']:.1f}",
                f"{record['deviation']:+.1%}",
                "yes" if record["within"] else "NO",
            ]
        )
    return align(lines, rule_after=1)


def draw_heat_maps(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Draw heat maps of the metrics into a file, in the format of its suffix; see `check_plot`."""
    from tieralloc.tools.plots.parts import add_title
    from tieralloc.tools.plots.records import check_plot

    check_plot(path)
    from matplotlib.figure import Figure

    panels: list[tuple[str, Metric, float]] = [
        ("dependent load, ns", lambda r: r["load_ns"], 1),
        ("streams, GB/s", lambda r: r["bytes_per_second"], 1e9),
        ("gathered rows of 256 bytes, ns", lambda r: r["gather_ns"]["256"], 1),
        ("lookup in place, ns per row", lambda r: r["lookup_ns"], 1),
    ]
    figure = Figure(figsize=(10.4, 8.2), layout="constrained")
    add_title(figure, conclude(records), records[0]["machine"])
    for axes, (title, value, unit) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        _heat_map(axes, records, title, value, unit)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().lstrip("."), dpi=150)


def _heat_map(
    axes: Axes, records: Sequence[Record], title: str, value: Metric, unit: float
) -> None:
    rows, columns, cells = _cells(records, value)
    medians = [[cells[row, column]["median"] / unit for column in columns] for row in rows]
    colours = "viridis" if unit > 1 else "viridis_r"
    image = axes.imshow(medians, cmap=colours, vmin=0, aspect="auto")
    axes.set_xticks(range(len(columns)), [f"node {column}" for column in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("memory of")
    axes.set_title(title, loc="left", fontsize=10)
    for y, line in enumerate(medians):
        for x, median in enumerate(line):
            light = image.norm(median) < 0.5 if unit > 1 else image.norm(median) > 0.5
            axes.text(x, y, f"{median:.1f}", ha="center", va="center", color="w" if light else "k")


def _conditions(records: Sequence[Record]) -> str:
    first = records[0]
    sizes = sorted({record["memory_bytes"] for record in records})
    huge = sum(record["huge_page_bytes"] for record in records)
    total = sum(record["memory_bytes"] for record in records)
    return align(
        [
            ["memory", f"{' and '.join(map(format_size, sizes))} per node, {huge / total:.0%}"
             " on huge pages"],
            ["samples", f"{first['load_ns']['samples']} per metric: median [quartiles]"],
            ["threads", "each pinned to a CPU; chases and gathers to the first CPU"],
            ["frequency", _frequency(records)],
            ["machine", first["machine"]],
        ],
        numbers=False,
    )  # fmt: skip


def _frequency(records: Sequence[Record]) -> str:
    known = [record["cpu_mhz"] for record in records if record["cpu_mhz"]["min"] is not None]
    if not known:
        return "not listed by the kernel"
    low, high = min(r["min"] for r in known), max(r["max"] for r in known)
    governor = known[0]["governor"]
    source = f"governor {governor}" if governor else "from /proc/cpuinfo, no cpufreq"
    return (
        f"{low:,.0f} MHz ({source})" if low == high else f"{low:,.0f} to {high:,.0f} MHz ({source})"
    )


def _matrix(title: str, records: Sequence[Record], value: Metric, unit: float) -> str:
    rows, columns, cells = _cells(records, value)
    lines = [[title, *(f"node {column}" for column in columns)]]
    for row in rows:
        lines.append([row, *(_cell(cells[row, column], unit) for column in columns)])
    return align(lines, rule_after=1)


def _cell(metric: Mapping[str, float], unit: float) -> str:
    median, q1, q3 = (metric[name] / unit for name in ("median", "q1", "q3"))
    return f"{median:,.1f} [{q1:,.1f} {q3:,.1f}]"


def _cells(
    records: Sequence[Record], value: Metric
) -> tuple[list[str], list[int], dict[tuple[str, int], Mapping[str, float]]]:
    rows = list(dict.fromkeys(_origin(record) for record in records))
    columns = list(dict.fromkeys(record["node"] for record in records))
    return rows, columns, {(_origin(r), r["node"]): value(r) for r in records}


def _origin(record: Record) -> str:
    cpus = _cpu_list(record["from_cpus"])
    if record["from_node"] is None:
        return f"cpus {cpus}"
    return f"node {record['from_node']} (cpus {cpus})"


def _cpu_list(cpus: Sequence[int]) -> str:
    """Return CPU numbers as a kernel list, such as ``0-3,8``."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)

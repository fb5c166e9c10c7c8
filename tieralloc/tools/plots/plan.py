"""Plot of a plan: miss ratio and latency against DRAM, with targets and the recommendation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import replacing
from tieralloc.tools.plan.plan import Plan
from tieralloc.tools.plan.report import conclusion
from tieralloc.tools.plan.targets import Kind, Record, duration
from tieralloc.tools.plots.parts import INK, PANEL, add_legend, add_title, prepare, styles_of
from tieralloc.tools.plots.records import check_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}
_STAR: dict[str, Any] = {
    **{"marker": "*", "markersize": 17, "linestyle": "", "color": "#F0E442"},
    **{"markeredgecolor": "black", "zorder": 5},
}


def plot_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Draw a plan into a file; errors as for `tieralloc.tools.plots.records.plot`."""
    check_plot(path)
    figure = draw_plan(plan)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().lstrip("."), dpi=150)


def draw_plan(plan: Plan) -> Figure:
    """Return a figure of a plan; its title is the recommendation.

    A panel shows miss ratios against DRAM, another one the latency of the targets, by default p99:
    a line per policy, dotted lines of the targets, a star at the recommended budget. Saturated
    points have no latency.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    latencies = [t.kind for t in plan.targets if t.kind in ("p50", "p99")] or ["p99"]
    kinds: list[Kind] = ["miss-ratio", *dict.fromkeys(latencies)]
    figure = Figure(figsize=(PANEL[0] * len(kinds), PANEL[1] + 0.9), layout="constrained")
    size = plan.load["batch_size"]
    load = f"{plan.trace}: calls of {size:,} sample{'s' if size > 1 else ''}"
    rate = plan.load["rate"]
    load += ", closed loop" if rate is None else f", {rate:,.10g} per second"
    add_title(figure, conclusion(plan), f"{load}; {plan.device['engine']}")
    styles = styles_of(plan.records)
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        prepare(axes)
        draw_panel(axes, plan, kind, styles)
    others = []
    if plan.choice.record is not None:
        others.append(Line2D([], [], label="recommended", **_STAR))
    if plan.targets:
        others.append(Line2D([], [], label="target", **_LIMIT))
    add_legend(figure, styles, others)
    return figure


def draw_panel(axes: Axes, plan: Plan, kind: Kind, styles: Mapping[str, dict[str, Any]]) -> None:
    """Draw one figure of all records against their DRAM."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=7))
    axes.xaxis.set_major_formatter(lambda value, _: _size(value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("DRAM")
    for policy, style in styles.items():
        own = [record for record in plan.records if record["policy"] == policy]
        points = [(r["dram_bytes"], y) for r in own if (y := _value(r, kind)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), **{**style, "markersize": 4.5})
    best = plan.choice.record
    if best is not None and (value := _value(best, kind)) is not None:
        axes.plot(best["dram_bytes"], value, **_STAR)
    for target in plan.targets:
        if target.kind == "dram":
            axes.axvline(target.limit, **_LIMIT)
        elif target.kind == kind:
            axes.axhline(target.limit, **_LIMIT)
    title = "Miss ratio" if kind == "miss-ratio" else f"Latency of a call, {kind}"
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    if kind != "miss-ratio":
        axes.yaxis.set_major_formatter(lambda value, _: duration(value) if value else "0")


def _value(record: Record, kind: Kind) -> float | None:
    value = record["miss_ratio"] if kind == "miss-ratio" else record["latency_us"][kind]
    return None if value is None else float(value)


def _size(value: float) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"

"""Plots of open-loop records: latency against the rate at which calls arrive, up to saturation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc.tools.plots.parts import (
    PANEL,
    End,
    Record,
    emulation_of,
    label_ends,
    prepare,
    prepare_latency_axis,
    share_latency_axis,
    styles_of,
)
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Percentiles that are drawn: their names, and the fewest calls that tell them.
PERCENTILES = {"p50": ("Median", 1), "p99": ("p99", 100), "p999": ("p99.9", 1000)}
_MOST_ROWS = 5
_INK = "#555555"
_SATURATED: dict[str, Any] = {
    "linestyle": "",
    "marker": "x",
    "markersize": 7,
    "markeredgewidth": 1.8,
}
_CLOSED: dict[str, Any] = {"linestyle": ":", "linewidth": 1.2}


def draw_rates(records: Sequence[Record]) -> Figure:
    """Draw records of an open loop: a row of panels for each fast fraction, up to five.

    Each panel shows a percentile of the latencies against the offered rate, a line for each
    policy, up to the first rate beyond saturation, where latencies tell no more than how long the
    load lasted. Percentiles of fewer calls than can tell them are left out. Records of a closed
    loop among them add lines at the rates that it reached.
    """
    from matplotlib.figure import Figure

    measured = [record for record in records if "loop" in record]
    fractions = sorted({record["fast_fraction"] for record in measured})[:_MOST_ROWS]
    size = (PANEL[0] * len(PERCENTILES), PANEL[1] * len(fractions) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    title = f"{measured[0]['trace']}: latency against offered load, the fast tier warm"
    title += emulation_of(measured[0])
    figure.suptitle(title, fontsize=12, fontweight="bold")
    panels = figure.subplots(len(fractions), len(PERCENTILES), squeeze=False)
    styles = styles_of(measured)
    ends: dict[Axes, list[End]] = {}
    for row, fraction in zip(panels, fractions, strict=True):
        at = [record for record in measured if record["fast_fraction"] == fraction]
        for axes, percentile in zip(row, PERCENTILES, strict=True):
            ends[axes] = draw_rate_panel(axes, at, percentile, styles)
        share_rate_axis(row, at)
    share_latency_axis([axes for axes, of_panel in ends.items() if of_panel])
    for axes, of_panel in ends.items():
        label_ends(axes, of_panel)  # last, when the scales are what they will be
    _explain(figure, measured)
    return figure


def draw_rate_panel(
    axes: Axes, records: Sequence[Record], percentile: str, styles: Mapping[str, dict[str, Any]]
) -> list[End]:
    """Draw a percentile of records of one fast fraction; no ends where too few calls tell it."""
    name, fewest = PERCENTILES[percentile]
    first = records[0]
    dram = percent(first["fast_fraction"])
    prepare(axes)
    prepare_latency_axis(axes)
    axes.set_title(f"{name} with {dram} of the rows in DRAM", loc="left", fontsize=10)
    ends = []
    for policy, style in styles.items():
        of_policy = [record for record in records if record["policy"] == policy]
        points = [r for r in _up_to_saturation(of_policy) if r["calls"] >= fewest]
        if not points:
            continue
        x, y = _draw_line(axes, points, percentile, style)
        ends.append(End(x, y, policy, style["color"]))
        for record in of_policy:
            if record["loop"] == "closed":
                axes.axvline(record["achieved_rate"], color=style["color"], **_CLOSED)
    if not ends:
        text = f"told by {fewest:,} calls or more at a rate"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=_INK)
        axes.set_axis_off()
        return []
    axes.set_xlabel(f"offered rate ({_call(first)} a second)")
    axes.set_ylabel("latency of a call, from its arrival")
    return ends


def _up_to_saturation(records: Sequence[Record]) -> list[Record]:
    """Those of an open loop by rate, to the first beyond the highest rate that was sustained."""
    by_rate = sorted(
        (record for record in records if record["loop"] == "open"),
        key=lambda record: record["offered_rate"],
    )
    sustained = [i for i, record in enumerate(by_rate) if not record["saturated"]]
    return by_rate[: max(sustained, default=-1) + 2]


def _draw_line(
    axes: Axes, points: Sequence[Record], percentile: str, style: Mapping[str, Any]
) -> tuple[float, float]:
    """Draw a policy's line, dashed where it leaves what is sustained; return where it ends."""
    xy = [(record["offered_rate"], record["latency_us"][percentile]) for record in points]
    leaves = points[-1]["saturated"]
    plain = {**style, "marker": "", "linewidth": 1.8}
    solid = xy[:-1] if leaves else xy
    if solid:
        axes.plot(*zip(*solid, strict=True), **plain)
    if leaves:
        axes.plot(*zip(*xy[-2:], strict=True), **{**plain, "linestyle": (0, (2, 2))})
    for point, record in zip(xy, points, strict=True):
        mark = _SATURATED if record["saturated"] else {"marker": style["marker"], "markersize": 5.5}
        axes.plot(*point, **{"color": style["color"], **mark})
    return xy[-1]


def share_rate_axis(row: Sequence[Axes], records: Sequence[Record]) -> None:
    """Give the panels of a fast fraction one scale."""
    by_policy = [[r for r in records if r["policy"] == policy] for policy in styles_of(records)]
    shown = [record["offered_rate"] for r in by_policy for record in _up_to_saturation(r)]
    shown += [record["achieved_rate"] for record in records if record["loop"] == "closed"]
    for axes in row:
        axes.set_xlim(0, 1.05 * max(shown))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _explain(figure: Figure, records: Sequence[Record]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    if any(record.get("saturated") for record in records):
        label = "saturated: calls come faster than they are served, and wait the longer the later"
        handles.append(Line2D([], [], color=_INK, label=label, **_SATURATED))
    if any(record["loop"] == "closed" for record in records):
        handles.append(Line2D([], [], color=_INK, label="reached by the closed loop", **_CLOSED))
    if handles:
        place = "outside lower center"
        figure.legend(handles=handles, loc=place, ncols=2, frameon=False, labelcolor=_INK)


def _call(record: Record) -> str:
    size = record["batch_size"]
    if size == "row":
        return "calls of one row"
    return f"calls of {size:,} sample{'s' if size > 1 else ''}"

"""Plots of open-loop records: latency against the offered rate, up to saturation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc.tools.conclusions import conclude
from tieralloc.tools.plots.parts import (
    INK,
    PANEL,
    Record,
    add_legend,
    add_title,
    emulation_of,
    prepare,
    prepare_latency_axis,
    share_latency_axis,
    styles_of,
)
from tieralloc.tools.replay.records import PERCENTILES as FRACTIONS
from tieralloc.tools.replay.records import min_calls
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: Percentiles to draw, and their names.
PERCENTILES = {"p50": "Median", "p99": "p99", "p999": "p99.9"}
_MAX_ROWS = 5
_SATURATED: dict[str, Any] = {
    "linestyle": "",
    "marker": "x",
    "markersize": 7,
    "markeredgewidth": 1.8,
}
_CLOSED: dict[str, Any] = {"linestyle": ":", "linewidth": 1.2}


def draw_rates(records: Sequence[Record]) -> Figure:
    """Draw records of an open loop: a row of panels per fast fraction, up to five.

    Each panel shows a percentile of the latencies against the offered rate, a line per policy, up
    to the first saturated rate: beyond it latencies only measure the duration of the load.
    Percentiles with too few calls are omitted. Records of a closed loop add vertical lines at
    their achieved rates.
    """
    from matplotlib.figure import Figure

    measured = [record for record in records if "loop" in record]
    fractions = sorted({record["fast_fraction"] for record in measured})[:_MAX_ROWS]
    size = (PANEL[0] * len(PERCENTILES), PANEL[1] * len(fractions) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    source = f"{measured[0]['trace']}, the fast tier warm" + emulation_of(measured[0])
    add_title(figure, conclude(measured), source)
    panels = figure.subplots(len(fractions), len(PERCENTILES), squeeze=False)
    styles = styles_of(measured)
    for row, fraction in zip(panels, fractions, strict=True):
        selected = [record for record in measured if record["fast_fraction"] == fraction]
        for axes, percentile in zip(row, PERCENTILES, strict=True):
            draw_rate_panel(axes, selected, percentile, styles)
        share_rate_axis(row, selected)
    share_latency_axis([axes for axes in panels.flat if axes.lines])
    add_legend(figure, styles, _markers(measured))
    return figure


def draw_rate_panel(
    axes: Axes, records: Sequence[Record], percentile: str, styles: Mapping[str, dict[str, Any]]
) -> None:
    """Draw a percentile at one fast fraction, of policies with enough calls."""
    first = records[0]
    fraction = percent(first["fast_fraction"])
    prepare(axes)
    prepare_latency_axis(axes)
    axes.set_title(f"{PERCENTILES[percentile]}, fast fraction {fraction}", loc="left", fontsize=10)
    for policy, style in styles.items():
        policy_records = [record for record in records if record["policy"] == policy]
        points = [r for r in _up_to_saturation(policy_records) if percentile in r["latency_us"]]
        if not points:
            continue
        _draw_line(axes, points, percentile, style)
        for record in policy_records:
            if record["loop"] == "closed":
                axes.axvline(record["achieved_rate"], color=style["color"], **_CLOSED)
    if not axes.lines:
        text = f"needs {min_calls(FRACTIONS[percentile]):,} calls or more at a rate"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=INK)
        axes.set_axis_off()
        return
    axes.set_xlabel(f"offered rate ({_call(first)} per second)")
    axes.set_ylabel("latency of a call since its arrival")


def _up_to_saturation(records: Sequence[Record]) -> list[Record]:
    """Return open-loop records by rate, up to the first rate above the highest sustained one."""
    by_rate = sorted(
        (record for record in records if record["loop"] == "open"),
        key=lambda record: record["offered_rate"],
    )
    sustained = [i for i, record in enumerate(by_rate) if not record["saturated"]]
    return by_rate[: max(sustained, default=-1) + 2]


def _draw_line(
    axes: Axes, points: Sequence[Record], percentile: str, style: Mapping[str, Any]
) -> None:
    """Draw a policy's line, dashed to a saturated last point."""
    xy = [(record["offered_rate"], record["latency_us"][percentile]) for record in points]
    is_saturated = points[-1]["saturated"]
    plain = {**style, "marker": "", "linewidth": 1.8}
    solid = xy[:-1] if is_saturated else xy
    if solid:
        axes.plot(*zip(*solid, strict=True), **plain)
    if is_saturated:
        axes.plot(*zip(*xy[-2:], strict=True), **{**plain, "linestyle": (0, (2, 2))})
    for point, record in zip(xy, points, strict=True):
        mark = _SATURATED if record["saturated"] else {"marker": style["marker"], "markersize": 5.5}
        axes.plot(*point, **{"color": style["color"], **mark})


def share_rate_axis(row: Sequence[Axes], records: Sequence[Record]) -> None:
    """Set one rate scale for the panels of a fast fraction."""
    by_policy = [[r for r in records if r["policy"] == policy] for policy in styles_of(records)]
    shown_rates = [record["offered_rate"] for r in by_policy for record in _up_to_saturation(r)]
    shown_rates += [record["achieved_rate"] for record in records if record["loop"] == "closed"]
    for axes in row:
        axes.set_xlim(0, 1.05 * max(shown_rates))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _markers(records: Sequence[Record]) -> list[Line2D]:
    """Return the legend of what the lines of all policies have."""
    from matplotlib.lines import Line2D

    lines = []
    if any(record.get("saturated") for record in records):
        lines.append(Line2D([], [], color=INK, label="saturated: latencies grow", **_SATURATED))
    if any(record["loop"] == "closed" for record in records):
        lines.append(Line2D([], [], color=INK, label="rate of the closed loop", **_CLOSED))
    return lines


def _call(record: Record) -> str:
    size = record["batch_size"]
    if size == "row":
        return "calls of one row"
    return f"calls of {size:,} sample{'s' if size > 1 else ''}"

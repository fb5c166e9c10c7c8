"""Shared parts of plots: styles of policies, their legend, and axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Record = Mapping[str, Any]

PANEL = (5.2, 3.9)  # inches
# Okabe and Ito's colours, which suit all kinds of colour vision, without the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_OPT_STYLE = {"color": "#555555", "linestyle": "--", "marker": "x"}


def emulation_of(record: Record) -> str:
    """Return a line of the title for an emulated slow tier; empty for a real one."""
    if not record.get("emulated"):
        return ""
    return f"\nemulated slow tier: {record['slow_tier'].partition(': ')[2]}"


def styles_of(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return the colour, marker and line style of each policy, for all panels."""
    styles: dict[str, dict[str, Any]] = {}
    for record in records:
        policy = record["policy"]
        if policy in styles:
            continue
        nth = sum(styled != "opt" for styled in styles)
        colour, marker = _COLOURS[nth % len(_COLOURS)], _MARKERS[nth % len(_MARKERS)]
        line = ("-", "--", ":")[nth // len(_COLOURS) % 3]
        styles[policy] = {"color": colour, "marker": marker, "linestyle": line}
        if policy == "opt":
            styles[policy] = dict(_OPT_STYLE)
    return styles


def prepare(axes: Axes) -> None:
    """Draw the grid of a panel."""
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(
    figure: Figure, styles: Mapping[str, dict[str, Any]], others: Sequence[Line2D] = ()
) -> None:
    """Name the line of each policy, and other lines, to the right of all panels."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], label=policy, **style) for policy, style in styles.items()]
    figure.legend(handles=[*lines, *others], loc="outside right center", frameon=False)


def prepare_latency_axis(axes: Axes) -> None:
    """Format the y axis for latencies in µs."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda value, _: _duration(value))
    axes.yaxis.set_minor_formatter(NullFormatter())


def share_latency_axis(panels: Sequence[Axes]) -> None:
    """Set one latency scale for all panels."""
    if not panels:
        return
    low = min(panel.dataLim.y0 for panel in panels) / 1.5
    high = max(panel.dataLim.y1 for panel in panels) * 1.5
    for panel in panels:
        panel.set_ylim(low, high)


def _duration(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1)):
        if microseconds >= size:
            return f"{microseconds / size:g} {unit}"
    return f"{1000 * microseconds:g} ns"

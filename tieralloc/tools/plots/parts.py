"""Shared parts of plots: styles of policies, their legend, and axes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Record = Mapping[str, Any]

PANEL = (5.2, 3.9)  # inches
# Okabe and Ito's colours without the yellow, then Tol's, which suit all kinds of colour vision.
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933", "#44AA99", "#AA4499", "#661100", "#332288", "#888888"),
    *("#FB9A99", "#B2DF8A", "#CAB2D6"),
)
_MARKERS = "osD^vPX<>p*hd8H1+"
_OPT_STYLE = {"color": "#555555", "linestyle": "--", "marker": "x"}
INK = "#555555"


def emulation_of(record: Record) -> str:
    """Return the end of a source for an emulated slow tier; empty for a real one."""
    if not record.get("emulated"):
        return ""
    return f"; emulated slow tier: {record['slow_tier'].partition(': ')[2]}"


def styles_of(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return the colour, marker and line style of each policy, for all panels; none repeats."""
    styles: dict[str, dict[str, Any]] = {}
    for record in records:
        policy = record["policy"]
        if policy == "opt":
            styles[policy] = dict(_OPT_STYLE)
        elif policy not in styles:
            nth = sum(styled != "opt" for styled in styles)
            line = "--" if record.get("baseline") or record["fast_rows"] == 0 else "-"
            styles[policy] = {"color": _colour(nth), "marker": _marker(nth), "linestyle": line}
    return styles


def _colour(nth: int) -> Any:
    if nth < len(_COLOURS):
        return _COLOURS[nth]
    from matplotlib.colors import hsv_to_rgb

    hue = 0.6180339887 * nth % 1  # golden ratio: far from all others
    return tuple(hsv_to_rgb((hue, 0.8, 0.6)).tolist())


def _marker(nth: int) -> Any:
    # Beyond the named ones: stars with more and more points.
    return _MARKERS[nth] if nth < len(_MARKERS) else (nth - len(_MARKERS) + 6, 1, 0)


def add_title(figure: Figure, message: str, source: str) -> None:
    """Write the message of a plot above all panels, and below it the source of its data."""
    width = int(figure.get_figwidth() * 8)
    figure.suptitle(textwrap.fill(message, width), fontsize=12, fontweight="bold")
    figure.supxlabel(source, fontsize=9, color=INK)


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

"""Shared parts of plots: styles of policies, axes, and labels at the ends of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]

PANEL = (5.2, 3.9)  # inches
# Okabe and Ito's colours, which suit all kinds of colour vision, without the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_OPT_STYLE = {"color": "#555555", "linestyle": "--", "marker": "x"}
_LABEL_HEIGHT = 0.055  # as a fraction of the height of a panel


class End(NamedTuple):
    """Right end of a line, and its policy."""

    x: float
    y: float
    policy: str
    colour: str


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


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write the name of each line to the right of its end, without overlaps."""
    ascending = sorted(ends, key=lambda end: end.y)
    to_fraction = axes.transData + axes.transAxes.inverted()
    end_heights = [float(to_fraction.transform((x, y))[1]) for x, y, _, _ in ascending]
    heights = _spread(end_heights, _LABEL_HEIGHT)
    for (x, y, policy, colour), height in zip(ascending, heights, strict=True):
        axes.annotate(
            policy,
            xy=(x, y),
            xytext=(1.04, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)},
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


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


def _spread(heights: Sequence[float], min_gap: float) -> list[float]:
    """Return ascending heights moved as little as possible so that gaps are `min_gap` or more."""
    groups: list[list[float]] = []  # heights that touch; each group is centred on its mean
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], min_gap):
            last = groups.pop()
            groups[-1].extend(last)
    return [_bottom(group, min_gap) + i * min_gap for group in groups for i in range(len(group))]


def _overlap(lower: Sequence[float], upper: Sequence[float], min_gap: float) -> bool:
    return _bottom(upper, min_gap) < _top(lower, min_gap) + min_gap


def _bottom(group: Sequence[float], min_gap: float) -> float:
    return sum(group) / len(group) - min_gap * (len(group) - 1) / 2


def _top(group: Sequence[float], min_gap: float) -> float:
    return sum(group) / len(group) + min_gap * (len(group) - 1) / 2

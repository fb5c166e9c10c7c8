"""What plots of records are made of: styles of policies, axes, and names at the ends of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]

PANEL = (5.2, 3.9)  # inches
# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_OPT_STYLE = {"color": "#555555", "linestyle": "--", "marker": "x"}
_LINE = 0.055  # height of a line of text, as a part of a panel's


class End(NamedTuple):
    """Where a line ends on the right, and whose it is."""

    x: float
    y: float
    policy: str
    colour: str


def emulation_of(record: Record) -> str:
    """Return a line of a title that says that a record's slow tier is emulated, if it is."""
    if not record.get("emulated"):
        return ""
    return f"\nemulated slow tier: {record['slow_tier'].partition(': ')[2]}"


def styles_of(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Choose a colour, marker and line for each policy, the same in all panels."""
    styles: dict[str, dict[str, Any]] = {}
    for record in records:
        policy = record["policy"]
        if policy in styles:
            continue
        nth = sum(known != "opt" for known in styles)
        colour, marker = _COLOURS[nth % len(_COLOURS)], _MARKERS[nth % len(_MARKERS)]
        line = ("-", "--", ":")[nth // len(_COLOURS) % 3]
        styles[policy] = {"color": colour, "marker": marker, "linestyle": line}
        if policy == "opt":
            styles[policy] = dict(_OPT_STYLE)
    return styles


def prepare(axes: Axes) -> None:
    """Give a panel its grid."""
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write each line's name to the right of its end, apart from the others."""
    order = sorted(ends, key=lambda end: end.y)
    to_part = axes.transData + axes.transAxes.inverted()
    heights = [float(to_part.transform((x, y))[1]) for x, y, _, _ in order]
    for (x, y, policy, colour), height in zip(order, _spread(heights, _LINE), strict=True):
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
    """Make the upright axis one of latencies in µs."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda value, _: _duration(value))
    axes.yaxis.set_minor_formatter(NullFormatter())


def share_latency_axis(panels: Sequence[Axes]) -> None:
    """Give all latency panels one scale, so that they can be compared by eye."""
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


def _spread(heights: Sequence[float], least: float) -> list[float]:
    """Move ascending heights so that they are `least` apart, each as little as can be."""
    groups: list[list[float]] = []  # of those that touch; each group is centred on its mean
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], least) < _top(groups[-2], least) + least:
            last = groups.pop()
            groups[-1].extend(last)
    return [_bottom(group, least) + i * least for group in groups for i in range(len(group))]


def _bottom(group: Sequence[float], least: float) -> float:
    return sum(group) / len(group) - least * (len(group) - 1) / 2


def _top(group: Sequence[float], least: float) -> float:
    return sum(group) / len(group) + least * (len(group) - 1) / 2

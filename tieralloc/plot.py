"""Plots of records: miss ratio against fast fraction, and how latencies are distributed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tieralloc._files import replacing
from tieralloc.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_OPT_STYLE = {"color": "#555555", "linestyle": "--", "marker": "x"}
_MISS_RATIO = "miss ratio (share of lookups fetched on demand)"
_PANEL = (5.2, 3.9)  # inches
_MOST_LATENCY_PANELS = 5
_LINE = 0.055  # height of a line of text, as a part of a panel's


class _End(NamedTuple):
    """Where a line ends on the right, and whose it is."""

    x: float
    y: float
    policy: str
    colour: str


def check_plot(path: str | os.PathLike[str]) -> None:
    """Raise what `plot` would for this path, before there is anything to plot.

    Raises
    ------
    ImportError
        Where matplotlib is not installed.
    ValueError
        For a suffix that is no image format.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib, which is not installed: pip install 'tieralloc[plot]'"
        ) from error
    known = sorted(FigureCanvasAgg.filetypes)
    if Path(path).suffix.lower().lstrip(".") not in known:
        raise ValueError(
            f"{path} has a suffix of no image format, expected one of {', '.join(known)}"
        )


def plot(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Draw records of `simulate` or `replay` into a file, as `draw` does.

    Parameters
    ----------
    records : sequence of dict
        Of one trace; at least one.
    path : path
        The image, in the format of its suffix, such as ".png" or ".svg".

    Raises
    ------
    ImportError, ValueError
        As `check_plot` does.
    OSError
        Where the image cannot be written.
    """
    check_plot(path)
    figure = draw(records)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().lstrip("."), dpi=150)


def draw(records: Sequence[Record]) -> Figure:
    """Draw records of `simulate` or `replay` as a matplotlib figure.

    One panel shows miss ratio against fast fraction, a line for each policy. Records of replay
    add the distribution of latencies at each fraction, up to five.
    """
    from matplotlib.figure import Figure

    styles = _styles(records)
    measured = [record for record in records if "latency_curve_us" in record]
    fractions = sorted({record["fast_fraction"] for record in measured})[:_MOST_LATENCY_PANELS]
    columns = min(1 + len(fractions), 3)
    rows = math.ceil((1 + len(fractions)) / columns)
    size = (_PANEL[0] * columns * (1.25 if columns == 1 else 1), _PANEL[1] * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(_title(records), fontsize=12, fontweight="bold")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[1 + len(fractions) :]:
        panel.set_visible(False)
    for panel in panels:
        _prepare(panel)
    ends = [_draw_miss_ratios(panels[0], records, styles)]
    for panel, fraction in zip(panels[1:], fractions, strict=False):
        at = [record for record in measured if record["fast_fraction"] == fraction]
        ends.append(_draw_latencies(panel, at, fraction, styles))
    _share_latency_axis(panels[1 : 1 + len(fractions)])
    for panel, of_panel in zip(panels, ends, strict=False):
        _label_ends(panel, of_panel)  # last, when the scales are what they will be
    return figure


def _title(records: Sequence[Record]) -> str:
    first = records[0]
    return f"{first['trace']}: {first['lookups']:,} lookups counted, the fast tier warm"


def _styles(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
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


def _draw_miss_ratios(
    axes: Axes, records: Sequence[Record], styles: Mapping[str, dict[str, Any]]
) -> list[_End]:
    fractions = sorted({record["fast_fraction"] for record in records})
    axes.set_title("On-demand fetches", loc="left", fontsize=10)
    if len(fractions) == 1:
        _draw_bars(axes, records, styles)
        return []
    ends = []
    for policy, style in styles.items():
        points = sorted(
            (record["fast_fraction"], record["miss_ratio"])
            for record in records
            if record["policy"] == policy
        )
        axes.plot(*zip(*points, strict=True), **style, linewidth=1.8, markersize=5.5)
        ends.append(_End(*points[-1], policy, style["color"]))
    _fraction_axis(axes, fractions)
    axes.set_ylim(0, 1.08 * max(record["miss_ratio"] for record in records) or 1)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylabel(_MISS_RATIO)
    return ends


def _draw_bars(axes: Axes, records: Sequence[Record], styles: Mapping[str, dict[str, Any]]) -> None:
    """Draw miss ratios at one fraction, of which no line can be drawn."""
    policies = [record["policy"] for record in records]
    ratios = [record["miss_ratio"] for record in records]
    colours = [styles[policy]["color"] for policy in policies]
    bars = axes.barh(policies, ratios, color=colours, height=0.6)
    axes.bar_label(bars, [f"{100 * ratio:.1f}%" for ratio in ratios], padding=4, fontsize=9)
    axes.set_ylim(max(len(policies), 4) - 0.5, -0.5)  # downwards, bars no fatter than four are
    axes.set_xlim(0, 1.15 * max(ratios) or 1)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel(f"{_MISS_RATIO},\n{percent(records[0]['fast_fraction'])} of the rows in DRAM")
    axes.grid(False, axis="y")


def _fraction_axis(axes: Axes, fractions: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    if fractions[-1] >= 4 * fractions[0]:
        axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(FixedLocator(_apart(axes, fractions)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel("fast fraction (share of the trace's distinct rows in DRAM)")


def _apart(axes: Axes, values: Sequence[float]) -> list[float]:
    """Those of ascending values whose tick labels do not touch."""
    if len(values) == 1:
        return list(values)
    scaled = [math.log(value) if axes.get_xscale() == "log" else value for value in values]
    least = 0.09 * (scaled[-1] - scaled[0])
    kept = [len(values) - 1]
    for i in range(len(values) - 2, -1, -1):
        if scaled[kept[-1]] - scaled[i] >= least:
            kept.append(i)
    return [values[i] for i in reversed(kept)]


def _draw_latencies(
    axes: Axes, records: Sequence[Record], fraction: float, styles: Mapping[str, dict[str, Any]]
) -> list[_End]:
    from matplotlib.ticker import LogLocator

    ends = []
    for record in records:
        style = {**styles[record["policy"]], "marker": ""}
        curve = [(_nines(part), us) for part, us in record["latency_curve_us"] if part < 1]
        axes.plot(*zip(*curve, strict=True), **style, linewidth=1.8)
        ends.append(_End(*curve[-1], record["policy"], style["color"]))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda value, _: _duration(value))
    last = max(end.x for end in ends)
    ticks = [part for part in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999) if _nines(part) <= last + 0.01]
    axes.set_xticks([_nines(part) for part in ticks], [_quantile_name(part) for part in ticks])
    axes.set_xlabel("percentile of the calls")
    axes.set_ylabel("latency of a call")
    axes.set_title(f"Latency with {percent(fraction)} of the rows in DRAM", loc="left", fontsize=10)
    return ends


def _nines(fraction: float) -> float:
    """Where a quantile stands on an axis whose every unit is ten times rarer."""
    return -math.log10(1 - fraction)


def _quantile_name(fraction: float) -> str:
    return f"p{100 * fraction:g}" if fraction else "min"


def _duration(microseconds: float) -> str:
    if microseconds < 1:
        return f"{1000 * microseconds:g} ns"
    return f"{microseconds:g} µs" if microseconds < 1000 else f"{microseconds / 1000:g} ms"


def _share_latency_axis(panels: Sequence[Axes]) -> None:
    """Give all latency panels one scale, so that they can be compared by eye."""
    if not panels:
        return
    low = min(panel.dataLim.y0 for panel in panels) / 1.5
    high = max(panel.dataLim.y1 for panel in panels) * 1.5
    for panel in panels:
        panel.set_ylim(low, high)


def _prepare(axes: Axes) -> None:
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Axes, ends: Sequence[_End]) -> None:
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

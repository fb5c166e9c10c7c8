"""Plots of records: miss ratio against fast fraction, and latency distributions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import replacing
from tieralloc.tools.plots.parts import (
    PANEL,
    Record,
    add_legend,
    emulation_of,
    prepare,
    prepare_latency_axis,
    share_latency_axis,
    styles_of,
)
from tieralloc.tools.plots.rates import draw_rates
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MISS_RATIO = "miss ratio (on-demand fetches ÷ lookups)"
_MAX_LATENCY_PANELS = 5


def check_plot(path: str | os.PathLike[str]) -> None:
    """Raise the errors of `plot` for a path, before there are records.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the suffix is not an image format.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise ImportError(
            "matplotlib: not installed; plots need it: pip install 'tieralloc[plot]'"
        ) from error
    known = sorted(FigureCanvasAgg.filetypes)
    if Path(path).suffix.lower().lstrip(".") not in known:
        raise ValueError(f"{path}: unknown image format; expected a suffix of {', '.join(known)}")


def plot(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Draw records of `simulate` or `replay` into a file, with `draw`.

    Parameters
    ----------
    records : sequence of dict
        One record or more, of one trace.
    path : path
        Path of the image; the suffix sets the format, such as ".png" or ".svg".

    Raises
    ------
    ImportError, ValueError
        As for `check_plot`.
    OSError
        If the image cannot be written.
    """
    check_plot(path)
    figure = draw(records)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().lstrip("."), dpi=150)


def draw(records: Sequence[Record]) -> Figure:
    """Return a matplotlib figure of records of `simulate` or `replay`.

    One panel shows miss ratio against fast fraction, a line per policy. Records of replay add a
    panel of latency percentiles per fraction, up to five. Records of an open loop are drawn as
    latency against the offered rate instead.
    """
    records = _repeat_baseline(records)
    if any(record.get("loop") == "open" for record in records):
        return draw_rates(records)
    from matplotlib.figure import Figure

    styles = styles_of(records)
    measured = [record for record in records if "latency_curve_us" in record]
    fractions = sorted({record["fast_fraction"] for record in measured})[:_MAX_LATENCY_PANELS]
    columns = min(1 + len(fractions), 3)
    rows = math.ceil((1 + len(fractions)) / columns)
    size = (PANEL[0] * columns * (1.25 if columns == 1 else 1), PANEL[1] * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(_title(records), fontsize=12, fontweight="bold")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[1 + len(fractions) :]:
        panel.set_visible(False)
    for panel in panels:
        prepare(panel)
    draw_miss_ratios(panels[0], records, styles)
    for panel, fraction in zip(panels[1:], fractions, strict=False):
        selected = [record for record in measured if record["fast_fraction"] == fraction]
        draw_latencies(panel, selected, fraction, styles)
    share_latency_axis(panels[1 : 1 + len(fractions)])
    if panels[0].lines or measured:  # bars have names
        add_legend(figure, styles)
    return figure


def _title(records: Sequence[Record]) -> str:
    first = records[0]
    title = f"{first['trace']}: {first['lookups']:,} lookups counted, the fast tier warm"
    return title + emulation_of(first)


def _repeat_baseline(records: Sequence[Record]) -> list[Record]:
    """Repeat the record of a store without a fast tier at every fast fraction."""
    fractions = sorted({r["fast_fraction"] for r in records if r["fast_rows"] > 0})
    repeated: list[Record] = []
    for record in records:
        if record["fast_rows"] > 0 or not fractions:
            repeated.append(record)
        else:
            repeated += [{**record, "fast_fraction": fraction} for fraction in fractions]
    return repeated


def draw_miss_ratios(
    axes: Axes, records: Sequence[Record], styles: Mapping[str, dict[str, Any]]
) -> None:
    """Draw miss ratios against fast fractions; bars if there is only one fraction."""
    fractions = sorted({record["fast_fraction"] for record in records})
    axes.set_title("On-demand fetches", loc="left", fontsize=10)
    if len(fractions) == 1:
        _draw_bars(axes, records, styles)
        return
    for policy, style in styles.items():
        points = sorted(
            (record["fast_fraction"], record["miss_ratio"])
            for record in records
            if record["policy"] == policy
        )
        axes.plot(*zip(*points, strict=True), **style, linewidth=1.8, markersize=5.5)
    _fraction_axis(axes, fractions)
    axes.set_ylim(0, 1.08 * max(record["miss_ratio"] for record in records) or 1)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylabel(_MISS_RATIO)


def _draw_bars(axes: Axes, records: Sequence[Record], styles: Mapping[str, dict[str, Any]]) -> None:
    """Draw miss ratios at one fraction as bars."""
    policies = [record["policy"] for record in records]
    ratios = [record["miss_ratio"] for record in records]
    colours = [styles[policy]["color"] for policy in policies]
    bars = axes.barh(policies, ratios, color=colours, height=0.6)
    axes.bar_label(bars, [f"{100 * ratio:.1f}%" for ratio in ratios], padding=4, fontsize=9)
    axes.set_ylim(max(len(policies), 4) - 0.5, -0.5)  # downwards; max bar width
    axes.set_xlim(0, 1.15 * max(ratios) or 1)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel(f"{_MISS_RATIO},\n{percent(records[0]['fast_fraction'])} of the rows in DRAM")
    axes.grid(False, axis="y")


def _fraction_axis(axes: Axes, fractions: Sequence[float]) -> None:
    """Format the x axis for fast fractions, with ticks at `fractions`, up to eight."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if fractions[-1] >= 4 * fractions[0]:
        axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(FixedLocator(fractions, nbins=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel("fast fraction (share of the trace's distinct rows in DRAM)")


def draw_latencies(
    axes: Axes, records: Sequence[Record], fraction: float, styles: Mapping[str, dict[str, Any]]
) -> None:
    """Draw the latency percentiles of records of one fast fraction."""
    for record in records:
        style = {**styles[record["policy"]], "marker": ""}
        curve = [(_nines(q), us) for q, us in record["latency_curve_us"] if q < 1]
        axes.plot(*zip(*curve, strict=True), **style, linewidth=1.8)
    prepare_latency_axis(axes)
    last = axes.dataLim.x1
    ticks = [q for q in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999) if _nines(q) <= last + 0.01]
    axes.set_xticks([_nines(q) for q in ticks], [_quantile_name(q) for q in ticks])
    axes.set_xlabel("percentile of the calls")
    axes.set_ylabel("latency of a call")
    axes.set_title(f"Latency with {percent(fraction)} of the rows in DRAM", loc="left", fontsize=10)


def _nines(fraction: float) -> float:
    """Return the position of a quantile on an axis of decades of rarity."""
    return -math.log10(1 - fraction)


def _quantile_name(fraction: float) -> str:
    return f"p{100 * fraction:g}" if fraction else "min"

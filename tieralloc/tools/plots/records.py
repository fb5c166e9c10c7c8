"""Plots of records: reads, speed and latency, with the conclusion as the title."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tieralloc._common.files import replacing
from tieralloc.tools.conclusions import conclude, middle_fraction
from tieralloc.tools.plots.parts import (
    INK,
    PANEL,
    READS,
    Record,
    add_legend,
    add_title,
    emulation_of,
    prepare,
    prepare_latency_axis,
    styles_of,
)
from tieralloc.tools.plots.rates import draw_rates
from tieralloc.tools.report import percent, reads_ratio, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FRACTION_LABEL = "fast fraction (fast rows ÷ distinct rows of the trace)"
Styles: TypeAlias = Mapping[str, dict[str, Any]]


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
    """Return a matplotlib figure of records of `simulate` or `replay`; its title is the conclusion.

    A panel shows on-demand fetches and device reads ÷ lookups against the fast fraction, a line per
    policy. Records of replay add rows per second, with quartiles, and the latency percentiles at
    the fraction of the conclusion. Records of an open loop are drawn as latency against the offered
    rate instead.
    """
    if any(record.get("loop") == "open" for record in records):
        return draw_rates(records)
    from matplotlib.figure import Figure

    title = conclude(records)
    shown = middle_fraction(records)
    records = _repeat_baseline(records)
    styles = styles_of(records)
    measured = [record for record in records if "latency_curve_us" in record]
    columns = 3 if measured else 1
    size = (PANEL[0] * columns * (1.25 if columns == 1 else 1), PANEL[1] + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    source = f"{records[0]['trace']}: {records[0]['lookups']:,} lookups counted, the fast tier warm"
    add_title(figure, title, source + emulation_of(records[0]))
    panels = list(figure.subplots(1, columns, squeeze=False).flat)
    for panel in panels:
        prepare(panel)
    draw_reads(panels[-2:][0], [r for r in records if not r.get("baseline")], styles)
    if measured:
        draw_speeds(panels[0], measured, styles)
        selected = [record for record in measured if record["fast_fraction"] == shown]
        draw_latencies(panels[2], selected, shown, styles)
    add_legend(figure, styles, _read_lines(records))
    return figure


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


def _read_lines(records: Sequence[Record]) -> list[Line2D]:
    """Return the legend of the lines of device reads, if there are any."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=INK, label="device reads", **READS)] if _prefetch(records) else []


def _prefetch(records: Sequence[Record]) -> bool:
    return any(record.get("prefetches_issued") for record in records)


def draw_reads(axes: Axes, records: Sequence[Record], styles: Styles) -> None:
    """Draw on-demand fetches and device reads ÷ lookups; bars if there is only one fraction."""
    fractions = sorted({record["fast_fraction"] for record in records})
    title = "On-demand fetches"
    if _prefetch(records):
        title += " and, dotted, device reads" if len(fractions) > 1 else "; outlined: device reads"
    axes.set_title(title, loc="left", fontsize=10)
    if len(fractions) == 1:
        _draw_bars(axes, records, styles)
        return
    for policy, style in styles.items():
        own = sorted(
            (r for r in records if r["policy"] == policy), key=lambda r: float(r["fast_fraction"])
        )
        if not own:
            continue
        at = [record["fast_fraction"] for record in own]
        axes.plot(at, [r["miss_ratio"] for r in own], **style, linewidth=1.8, markersize=5.5)
        if _prefetch(own):
            axes.plot(at, [reads_ratio(r) for r in own], **{**READS, "color": style["color"]})
    _fraction_axis(axes, fractions)
    axes.set_ylim(0, 1.08 * max(_shown_reads(record) for record in records) or 1)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylabel("share of the lookups")


def _shown_reads(record: Record) -> float:
    """Return the highest share to show: beyond 1.2, device reads leave the panel."""
    return max(float(record["miss_ratio"]), min(reads_ratio(record), 1.2))


def _draw_bars(axes: Axes, records: Sequence[Record], styles: Styles) -> None:
    """Draw on-demand fetches at one fraction as bars, device reads as their outlines."""
    policies = [record["policy"] for record in records]
    ratios = [record["miss_ratio"] for record in records]
    reads = [reads_ratio(record) for record in records]
    colours = [styles[policy]["color"] for policy in policies]
    bars = axes.barh(policies, ratios, color=colours, height=0.6)
    if _prefetch(records):
        axes.barh(policies, reads, height=0.6, fill=False, edgecolor=INK, linestyle=":")
    labels = [
        percent(ratio, 3) + (f" ({percent(read, 3)})" if read > ratio else "")
        for ratio, read in zip(ratios, reads, strict=True)
    ]
    for bar, read, label in zip(bars, reads, labels, strict=True):
        at = (read, bar.get_y() + bar.get_height() / 2)
        axes.annotate(label, at, (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_ylim(max(len(policies), 4) - 0.5, -0.5)  # downwards; max bar width
    axes.set_xlim(0, 1.3 * max(map(_shown_reads, records)) or 1)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel(f"share of the lookups, fast fraction {percent(records[0]['fast_fraction'])}")
    axes.grid(False, axis="y")


def draw_speeds(axes: Axes, records: Sequence[Record], styles: Styles) -> None:
    """Draw the median rows per second with quartiles, a group per fast fraction."""
    fractions = sorted({record["fast_fraction"] for record in records})
    width = 0.7 / len(styles)
    for number, (policy, style) in enumerate(styles.items()):
        own = [record for record in records if record["policy"] == policy]
        if not own:
            continue
        offset = (number - (len(styles) - 1) / 2) * width
        at = [fractions.index(record["fast_fraction"]) + offset for record in own]
        speeds = [record["rows_per_second"] for record in own]
        quartiles = [
            record.get("rows_per_second_quartiles", (s, s))
            for record, s in zip(own, speeds, strict=True)
        ]
        low = [speed - pair[0] for speed, pair in zip(speeds, quartiles, strict=True)]
        high = [pair[1] - speed for speed, pair in zip(speeds, quartiles, strict=True)]
        marks = {"color": style["color"], "marker": style["marker"], "markersize": 5.5}
        axes.errorbar(at, speeds, yerr=[low, high], linestyle="", capsize=2, **marks)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.yaxis.set_minor_formatter(lambda *_: "")
    axes.set_xticks(range(len(fractions)), [percent(fraction) for fraction in fractions])
    axes.set_xlim(-0.5, len(fractions) - 0.5)
    axes.set_xlabel(FRACTION_LABEL)
    axes.set_ylabel("rows per second (log)")
    axes.set_title("Speed: median and quartiles of the turns", loc="left", fontsize=10)


def _fraction_axis(axes: Axes, fractions: Sequence[float]) -> None:
    """Format the x axis for fast fractions, with ticks at `fractions`, up to eight."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if fractions[-1] >= 4 * fractions[0]:
        axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(FixedLocator(fractions, nbins=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel(FRACTION_LABEL)


def draw_latencies(axes: Axes, records: Sequence[Record], fraction: float, styles: Styles) -> None:
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
    axes.set_title(f"Latency at a fast fraction of {percent(fraction)}", loc="left", fontsize=10)


def _nines(fraction: float) -> float:
    """Return the position of a quantile on an axis of decades of rarity."""
    return -math.log10(1 - fraction)


def _quantile_name(fraction: float) -> str:
    return f"p{100 * fraction:g}" if fraction else "min"

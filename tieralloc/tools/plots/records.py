"""Plots of records: reads, speed and latency, with the conclusion as the title."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tieralloc._common.files import replacing
from tieralloc.tools.conclusions import conclude, middle_fraction
from tieralloc.tools.plots.parts import (
    PANEL,
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

    A panel shows on-demand fetches ÷ lookups against the fast fraction, a line per policy. Another
    one shows device reads: per request of several lookups, or ÷ lookups if a policy prefetches.
    Records of replay add rows per second, with
    quartiles, and the latency percentiles at the fraction of the conclusion. Records of an open
    loop are drawn as latency against the offered rate instead.
    """
    if any(record.get("loop") == "open" for record in records):
        return draw_rates(records)
    from matplotlib.figure import Figure

    title = conclude(records)
    shown = middle_fraction(records)
    records = _repeat_baseline(records)
    styles = styles_of(records)
    panels = _panels(records, shown)
    columns = 2 if len(panels) == 4 else len(panels)
    rows = len(panels) // columns
    size = (PANEL[0] * columns * (1.25 if columns == 1 else 1), PANEL[1] * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    source = f"{records[0]['trace']}: {records[0]['lookups']:,} lookups counted, the fast tier warm"
    add_title(figure, title, source + emulation_of(records[0]))
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=True):
        prepare(axes)
        panel(axes, styles=styles)
    add_legend(figure, styles)
    return figure


def _panels(records: Sequence[Record], shown: float) -> list[Callable[..., None]]:
    """Return the functions that draw the panels."""
    measured = [record for record in records if "latency_curve_us" in record]
    policies = [record for record in records if not record.get("baseline")]
    panels: list[Callable[..., None]] = [
        partial(draw_values, records=policies, measure=_share("On-demand fetches", miss_ratio))
    ]
    if _has_requests(policies):
        panels.append(partial(draw_values, records=policies, measure=_READS_PER_REQUEST))
    elif any(record.get("prefetches_issued") for record in policies):
        title = "Device reads: on-demand fetches and prefetches"
        panels.append(partial(draw_values, records=policies, measure=_share(title, reads_ratio)))
    if measured:
        at_shown = [record for record in measured if record["fast_fraction"] == shown]
        panels.insert(0, partial(draw_speeds, records=measured))
        panels.append(partial(draw_latencies, records=at_shown, fraction=shown))
    return panels


def miss_ratio(record: Record) -> float:
    """Return on-demand fetches ÷ lookups."""
    return float(record["miss_ratio"])


class Measure(NamedTuple):
    """A figure of each record, for a panel."""

    title: str
    label: str
    value: Callable[[Record], float]
    text: Callable[[float], str]


def _share(title: str, value: Callable[[Record], float]) -> Measure:
    return Measure(title, "share of the lookups", value, lambda share: percent(share, 3))


_READS_PER_REQUEST = Measure(
    "Device reads: pages read on demand and by prefetches",
    "device reads per request",
    lambda record: float(record["device_reads_per_request"]),
    short,
)


def _has_requests(records: Sequence[Record]) -> bool:
    """Return whether all records have device reads per request, and requests of several lookups."""
    return all("device_reads_per_request" in record for record in records) and any(
        record["calls"] < record["lookups"] for record in records
    )


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


def draw_values(axes: Axes, records: Sequence[Record], styles: Styles, measure: Measure) -> None:
    """Draw a figure of the records against the fast fraction; bars if there is only one."""
    value = measure.value
    fractions = sorted({record["fast_fraction"] for record in records})
    axes.set_title(measure.title, loc="left", fontsize=10)
    if len(fractions) == 1:
        _draw_bars(axes, records, styles, measure)
        return
    for policy, style in styles.items():
        points = sorted(
            (record["fast_fraction"], value(record))
            for record in records
            if record["policy"] == policy
        )
        if points:
            axes.plot(*zip(*points, strict=True), **style, linewidth=1.8, markersize=5.5)
    _fraction_axis(axes, fractions)
    axes.set_ylim(0, 1.08 * max(map(value, records)) or 1)
    axes.yaxis.set_major_formatter(lambda figure, _: measure.text(figure))
    axes.set_ylabel(measure.label)


def _draw_bars(axes: Axes, records: Sequence[Record], styles: Styles, measure: Measure) -> None:
    policies = [record["policy"] for record in records]
    values = [measure.value(record) for record in records]
    colours = [styles[policy]["color"] for policy in policies]
    bars = axes.barh(policies, values, color=colours, height=0.6)
    axes.bar_label(bars, [measure.text(value) for value in values], padding=4, fontsize=9)
    axes.set_ylim(max(len(policies), 4) - 0.5, -0.5)  # downwards; max bar width
    axes.set_xlim(0, 1.2 * max(values) or 1)
    axes.xaxis.set_major_formatter(lambda figure, _: measure.text(figure))
    axes.set_xlabel(f"{measure.label}, fast fraction {percent(records[0]['fast_fraction'])}")
    axes.grid(False, axis="y")


def draw_speeds(axes: Axes, records: Sequence[Record], styles: Styles) -> None:
    """Draw the median rows per second with quartiles, a group per fast fraction."""
    from matplotlib.ticker import LogLocator

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
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _is_narrow(axes) else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.yaxis.set_minor_formatter(lambda *_: "")
    axes.set_xticks(range(len(fractions)), [percent(fraction) for fraction in fractions])
    axes.set_xlim(-0.5, len(fractions) - 0.5)
    axes.set_xlabel(FRACTION_LABEL)
    axes.set_ylabel("rows per second (log)")
    axes.set_title("Speed: median and quartiles of the turns", loc="left", fontsize=10)


def _is_narrow(axes: Axes) -> bool:
    """Return whether the values span less than a factor of 30."""
    return bool(axes.dataLim.y1 < 30 * axes.dataLim.y0)


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

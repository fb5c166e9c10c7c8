"""The plot of a comparison: bars of on-demand fetches by policy, and miss ratio curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import replacing
from tieralloc.tools.plots.parts import End, Record, label_ends, prepare, styles_of
from tieralloc.tools.plots.records import check_plot, fraction_axis
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RECMG = "recmg"
_MAX_BAR_PANELS = 4


def plot_comparison(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Draw records of `compare`, of one trace, into a file.

    Raises
    ------
    ImportError, ValueError
        As `check_plot` does.
    OSError
        Where the image cannot be written.
    """
    check_plot(path)
    figure = draw_comparison(records)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().lstrip("."), dpi=130)


def draw_comparison(records: Sequence[Record]) -> Figure:
    """Draw a panel of bars for each capacity, up to four, and one of curves for each caching.

    Bars are on-demand fetches relative to LRU; curves need two capacities.
    """
    from matplotlib.figure import Figure

    fractions = sorted({record["fast_fraction"] for record in records})
    simple = [name for name in _cachings(records) if name != _RECMG]
    curves = simple or [_RECMG]
    bars = fractions[:_MAX_BAR_PANELS]
    has_curves = len(fractions) > 1
    labels = _labels(records)
    height = 1.5 + 0.32 * len(labels)
    figure = Figure(
        figsize=(max(4.2 * len(bars), 5.2 * len(curves), 6.5), height + 4.4 * has_curves),
        layout="constrained",
    )
    first = records[0]
    figure.suptitle(
        f"{first['trace']}: {first['lookups']:,} lookups counted, the fast tier warm",
        fontsize=12,
        fontweight="bold",
    )
    heights = [height, 4.4][: 1 + has_curves]
    parts: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    top, *below = parts.flat
    colours = _caching_colours(records)
    for nth, (panel, fraction) in enumerate(
        zip(top.subplots(1, len(bars), sharey=True, squeeze=False).flat, bars, strict=True)
    ):
        _draw_bars(panel, records, fraction, labels, colours)
        if nth == 0:
            panel.set_yticks(range(len(labels)), labels)
    top.legend(
        *panel.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(colours),
        frameon=False,
        fontsize=9,
    )
    for part in below:
        panels = list(part.subplots(1, len(curves), squeeze=False).flat)
        for panel, caching in zip(panels, curves, strict=True):
            _draw_curves(panel, records, caching, fractions)
    return figure


def _cachings(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["caching"] for record in records))


def _labels(records: Sequence[Record]) -> list[str]:
    """Return the names of the bars: prefetching policies, recmg last."""
    names = dict.fromkeys(record["prefetching"] for record in records)
    return sorted(names, key=lambda name: name == _RECMG)


def _caching_colours(records: Sequence[Record]) -> dict[str, str]:
    styles = styles_of([{"policy": name} for name in _cachings(records)])
    return {name: style["color"] for name, style in styles.items()}


def _draw_bars(
    axes: Axes,
    records: Sequence[Record],
    fraction: float,
    labels: Sequence[str],
    colours: Mapping[str, str],
) -> None:
    prepare(axes)
    at = [r for r in records if r["fast_fraction"] == fraction and r["to_lru"] is not None]
    for nth, (caching, colour) in enumerate(colours.items()):
        own = {r["prefetching"]: r["to_lru"] for r in at if r["caching"] == caching}
        size = 0.84 / len(colours)
        places = [labels.index(name) + (nth + 0.5) * size - 0.42 for name in own]
        bars = axes.barh(places, list(own.values()), size * 0.92, color=colour, label=caching)
        texts = [f"{value:.2f}" for value in own.values()]
        axes.bar_label(bars, texts, padding=2, fontsize=7.5)
    axes.axvline(1, color="#555555", linewidth=1, linestyle="--")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0, 1.14 * max((r["to_lru"] for r in at), default=1))
    axes.set_xlabel("on-demand fetches ÷ LRU's")
    axes.set_title(f"{percent(fraction)} of the rows in DRAM", loc="left", fontsize=10)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _draw_curves(
    axes: Axes, records: Sequence[Record], caching: str, fractions: Sequence[float]
) -> None:
    prepare(axes)
    shown = [record for record in records if record["caching"] in (caching, _RECMG)]
    styles: dict[str, dict[str, Any]] = styles_of(shown)
    ends = []
    for policy, style in styles.items():
        points = sorted(
            (record["fast_fraction"], record["miss_ratio"])
            for record in shown
            if record["policy"] == policy
        )
        axes.plot(*zip(*points, strict=True), **style, linewidth=1.6, markersize=5)
        ends.append(End(*points[-1], policy, style["color"]))
    fraction_axis(axes, fractions)
    axes.set_ylim(0, 1.08 * max(record["miss_ratio"] for record in shown) or 1)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylabel("miss ratio")
    axes.set_title(f"Prefetching over {caching}, and recmg", loc="left", fontsize=10)
    label_ends(axes, ends)

"""A picture of what was measured: on-demand fetches beside LRU's, a panel for each trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.policies.contenders import KNOWN, LEARNED, LRU, OPT
from bench.policies.results import Results
from tieralloc._common.files import replacing
from tieralloc.tools.plots.records import check_plot
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (5.6, 4.2)  # inches
_MARKERS = "ov^<>sPXD*ph"
_GREY = "#8A8A8A"
# Of Okabe and Ito, which people with any colour vision tell apart.
_COLOURS = ("#E69F00", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
_ABOVE = 0.24  # where learned policies are, of the distance between capacities


def draw(traces: Sequence[Results]) -> Figure:
    """Draw each capacity as a row: known policies on it, learned ones above, OPT across both."""
    from matplotlib.figure import Figure

    columns = min(len(traces), 2)
    rows = math.ceil(len(traces) / columns)
    size = (_PANEL[0] * columns, _PANEL[1] * rows + 1)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[len(traces) :]:
        panel.set_visible(False)
    styles = _styles()
    for panel, results in zip(panels, traces, strict=False):
        _draw_trace(panel, results, styles)
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    shown = [label for label in styles if label in handles]
    figure.legend(
        [handles[label] for label in shown],
        shown,
        loc="outside lower center",
        ncols=4 * columns,
        frameon=False,
        fontsize=9,
    )
    return figure


def write(traces: Sequence[Results], path: Path) -> None:
    """Draw into a PNG.

    Raises
    ------
    ImportError
        Where matplotlib is missing.
    """
    check_plot(path)
    with replacing(path) as file:
        draw(traces).savefig(file, format="png", dpi=110)


def _styles() -> dict[str, dict[str, Any]]:
    """How each policy is marked, the same in all panels."""
    styles: dict[str, dict[str, Any]] = {}
    for nth, label in enumerate(LEARNED):
        styles[label] = {"marker": "o", "color": _COLOURS[nth % len(_COLOURS)], "markersize": 9}
    styles[OPT] = {"marker": "|", "color": "black", "markersize": 16, "markeredgewidth": 2}
    for nth, label in enumerate(label for label in KNOWN if label != LRU):
        marker = _MARKERS[nth % len(_MARKERS)]
        styles[label] = {"marker": marker, "color": _GREY, "markersize": 6, "fillstyle": "none"}
    return styles


def _draw_trace(axes: Axes, results: Results, styles: dict[str, dict[str, Any]]) -> None:
    rows = {fraction: -row for row, fraction in enumerate(results.fractions)}
    axes.axvline(1, color="#555555", linewidth=1, linestyle="--")
    for label, style in styles.items():
        shift = _ABOVE if label in LEARNED else _ABOVE / 2 if label == OPT else 0
        points = [
            (ratio, row + shift)
            for fraction, row in rows.items()
            if (ratio := results.to_lru(label, fraction)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), **style, linestyle="", label=label)
    axes.set_yticks(list(rows.values()), [percent(fraction) for fraction in rows])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.set_ylabel("fast fraction")
    axes.set_xlabel("on-demand fetches ÷ LRU's (dashed): less is better")
    axes.set_title(results.trace, loc="left", fontsize=11, fontweight="bold")
    axes.grid(True, axis="x", color="#E2E2E2", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)

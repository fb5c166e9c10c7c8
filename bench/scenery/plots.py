"""Parts of plots: panels, colours, one legend, and a PNG that is whole or not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc._files import replacing
from tieralloc.plot import check_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of Okabe and Ito, distinct for people with any colour vision.
COLOURS = ("#E69F00", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
GREY = "#8A8A8A"
MARKERS = "ov^<>sPXD*ph"


def panels(
    titles: Sequence[str], width: float = 5.6, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a panel for each title, two in a row; sizes of a panel in inches."""
    from matplotlib.figure import Figure

    columns = min(len(titles), 2)
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(width * columns, height * rows + 1), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes[len(titles) :]:
        panel.set_visible(False)
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(title, loc="left", fontsize=11, fontweight="bold")
        panel.grid(True, color="#E2E2E2", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes[: len(titles)]


def add_legend(figure: Figure, axes: Iterable[Axes], columns: int = 8) -> None:
    """Put one legend of all panels below them."""
    handles = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure; ImportError where matplotlib is missing."""
    check_plot(path)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)

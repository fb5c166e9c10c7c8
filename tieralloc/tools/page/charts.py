"""Plots as SVG that takes the colours and the font of the page it stands in."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tieralloc.tools.page.html import Markup, figure, grid, text
from tieralloc.tools.page.results import number
from tieralloc.tools.plots.parts import End, label_ends, prepare, share_latency_axis, styles_of
from tieralloc.tools.plots.rates import PERCENTILES, draw_rate_panel, share_rate_axis
from tieralloc.tools.plots.records import draw_latencies, draw_miss_ratios
from tieralloc.tools.report import Record, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Draw = Callable[[Axes], list[End]]

_SIZE = (4.4, 3.4)  # inches: a phone shows them at 1.1 times of that
_INK = "#010203"
#: Colours of plots, and what the page has in their place.
_COLOURS = {
    _INK: "currentColor",
    "#0072b2": "var(--c0)",
    "#d55e00": "var(--c1)",
    "#009e73": "var(--c2)",
    "#cc79a7": "var(--c3)",
    "#e69f00": "var(--c4)",
    "#56b4e9": "var(--c5)",
    "#000000": "var(--c6)",
    "#555555": "var(--muted)",
    "#dddddd": "var(--line)",
}
_STYLE = {
    "svg.fonttype": "none",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.facecolor": "none",
    "text.parse_math": False,  # names may have dollars
    "font.size": 9.5,
    "axes.labelsize": 9.5,
}


class Charts:
    """Makes the plots of one page; no two of them share a name of a part."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def miss_ratios(self, records: Sequence[Record]) -> Markup:
        """Draw miss ratios against fast fractions, of which there must be two or more."""
        styles = styles_of(records)
        label = "Share of lookups fetched on demand, by share of the rows in DRAM"

        def draw(axes: Axes) -> list[End]:
            ends = draw_miss_ratios(axes, records, styles)
            axes.set_xlabel("")
            axes.set_ylabel("")
            return ends

        return self._figure("Misses", [(label, draw)])

    def latencies(self, records: Sequence[Record]) -> Markup:
        """Draw how latencies of a closed loop are distributed, at each fast fraction."""
        shown = [record for record in records if _has_curve(record)]
        styles = styles_of(shown)

        def at(fraction: float) -> Draw:
            own = [record for record in shown if record["fast_fraction"] == fraction]
            return lambda axes: draw_latencies(axes, own, fraction, styles)

        return self._figure(
            "Latency",
            [
                (f"Latency of a call, {percent(fraction)} of the rows in DRAM", at(fraction))
                for fraction in sorted({record["fast_fraction"] for record in shown})
            ],
        )

    def rates(self, records: Sequence[Record]) -> Markup:
        """Draw latencies of an open loop against the offered rate, for each fast fraction."""
        shown = [record for record in records if _is_load(record)]
        styles = styles_of(shown)
        parts = []
        for fraction in sorted({record["fast_fraction"] for record in shown}):
            own = [record for record in shown if record["fast_fraction"] == fraction]
            calls = max(record["calls"] for record in own)
            for percentile, (name, fewest) in PERCENTILES.items():
                if calls >= fewest and any(record["loop"] == "open" for record in own):
                    label = f"{name} against offered load, {percent(fraction)} of the rows in DRAM"
                    parts.append((label, _at_rates(own, percentile, styles)))
        return self._figure("Latency", parts)

    def _figure(self, what: str, parts: Sequence[tuple[str, Draw]]) -> Markup:
        """Draw panels, whose latencies share a scale."""
        return grid(
            figure(svg, label)
            for (label, _), svg in zip(parts, self._svgs(what, parts), strict=True)
        )

    def _svgs(self, what: str, parts: Sequence[tuple[str, Draw]]) -> list[Markup]:
        import matplotlib
        from matplotlib.figure import Figure

        drawn = []
        with matplotlib.rc_context(_STYLE):
            for _, draw in parts:
                whole = Figure(figsize=_SIZE, layout="constrained")
                axes = whole.subplots()
                prepare(axes)
                drawn.append((whole, axes, draw(axes)))
                axes.set_title("", loc="left")  # the page has it above the figure
            if what == "Latency":
                share_latency_axis([axes for _, axes, ends in drawn if ends])
            svgs = []
            for (label, _), (whole, axes, ends) in zip(parts, drawn, strict=True):
                label_ends(axes, ends)
                file = io.StringIO()
                whole.savefig(file, format="svg", transparent=True, metadata={"Date": None})
                svgs.append(self._inlined(file.getvalue(), label))
        return svgs

    def _inlined(self, svg: str, label: str) -> Markup:
        """Take what a page needs of an SVG file, its parts named as no other's of the page."""
        prefix = f"f{next(self._numbers)}-"
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r' (id|xlink:href)="(#?)', rf' \1="\2{prefix}', svg)
        svg = svg.replace("url(#", f"url(#{prefix}")
        for colour, own in _COLOURS.items():
            svg = svg.replace(colour, own)
        size = re.search(r'viewBox="[^"]*"', svg)
        assert size is not None
        opening = f'<svg {size.group()} role="img" aria-label="{text(label)}">'
        return opening + svg[svg.index(">") + 1 :]


def _at_rates(records: Sequence[Record], percentile: str, styles: Any) -> Draw:
    def draw(axes: Axes) -> list[End]:
        ends = draw_rate_panel(axes, records, percentile, styles)
        share_rate_axis([axes], records)
        return ends

    return draw


def _has_curve(record: Record) -> bool:
    curve = record.get("latency_curve_us")
    return (
        isinstance(curve, list)
        and len(curve) > 1
        and all(
            isinstance(point, list)
            and len(point) == 2
            and all(isinstance(value, (int, float)) for value in point)
            for point in curve
        )
        and curve[0][0] < 1
    )


def _is_load(record: Record) -> bool:
    """Whether all is there that a plot of rates takes."""
    wanted: tuple[str, ...] = ("calls", "achieved_rate")
    if record.get("loop") not in ("open", "closed"):
        return False
    if record["loop"] == "open":
        wanted += ("offered_rate",)
        if not isinstance(record.get("saturated"), bool):
            return False
    return (
        all(number(record, key) is not None for key in wanted)
        and all(number(record, "latency_us", key) is not None for key in PERCENTILES)
        and isinstance(record.get("batch_size"), (int, str))
    )

"""The plot of a comparison: its bars and curves have the values of the records."""

import pytest

pytest.importorskip("matplotlib")

from bench.paper.plot import draw_comparison


def records(fractions=(0.05, 0.2)):
    pairs = [
        ("lru", "none"),
        ("lru", "domino"),
        ("s3fifo", "none"),
        ("s3fifo", "domino"),
        ("recmg", "none"),
        ("recmg", "recmg"),
    ]
    return [
        {
            "policy": f"{caching}+{prefetching}",
            "caching": caching,
            "prefetching": prefetching,
            "trace": "day",
            "fast_fraction": fraction,
            "lookups": 1000,
            "miss_ratio": 0.5 - fraction - 0.01 * nth,
            "to_lru": 1 - 0.1 * nth,
        }
        for nth, (caching, prefetching) in enumerate(pairs)
        for fraction in fractions
    ]


def test_plot_bars_have_length_of_ratios_to_lru():
    figure = draw_comparison(records())
    bars = [axes for axes in figure.axes if axes.patches]
    assert len(bars) == 2
    for axes in bars:
        widths = [patch.get_width() for patch in axes.patches]
        assert widths == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_plot_curves_have_recmg_with_each_simple_policy():
    figure = draw_comparison(records())
    curves = [axes for axes in figure.axes if len(axes.lines) > 1]
    assert [axes.get_title(loc="left") for axes in curves] == [
        "Prefetching over lru, and recmg",
        "Prefetching over s3fifo, and recmg",
    ]
    for axes in curves:
        assert len(axes.lines) == 4
        assert all(len(line.get_xdata()) == 2 for line in axes.lines)


def test_plot_of_one_capacity_has_only_bars(tmp_path):
    figure = draw_comparison(records((0.1,)))
    assert len(figure.axes) == 1
    figure.savefig(tmp_path / "one.png")

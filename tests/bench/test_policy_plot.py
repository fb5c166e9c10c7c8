"""The picture of the policies: every figure of the table is where it belongs."""

import pytest
from test_policy_results import FRACTIONS, results

from bench.policies.contenders import KNOWN, LABELS, LEARNED, LRU, OPT

pytest.importorskip("matplotlib")

from bench.policies.plot import draw


@pytest.fixture
def found():
    return results({label: (100 + nth, 300 - nth) for nth, label in enumerate(LABELS)})


@pytest.mark.parametrize("traces", [1, 2, 3])
def test_each_trace_has_a_panel_with_a_mark_for_every_policy_and_capacity(found, traces):
    figure = draw([found] * traces)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["t"] * traces
    for axes in panels:
        marks = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
        for label in (*KNOWN, *LEARNED, OPT):
            if label != LRU:
                assert marks[label] == [found.to_lru(label, fraction) for fraction in FRACTIONS]


def test_the_legend_names_every_policy_once(found):
    (legend,) = draw([found, found]).legends
    named = [text.get_text() for text in legend.get_texts()]
    assert sorted(named) == sorted({*KNOWN, *LEARNED, OPT} - {LRU})

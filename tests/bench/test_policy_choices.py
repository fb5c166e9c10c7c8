"""Choices that are changed in the source: that they are there to change, and how they are shown."""

import pytest

from bench.policies import choices


@pytest.mark.parametrize("choice", choices.CHOICES, ids=lambda choice: choice.label)
def test_each_choice_is_one_line_of_the_source(choice):
    text = (choices.ROOT / choice.file).read_text()
    assert text.count(choice.before) == 1
    assert choice.before not in text.replace(choice.before, choice.after)


def test_table_has_a_line_for_each_choice():
    cells = [(0.5, 0.25)] * len(choices.FRACTIONS)
    text = choices.table(["day"], {"as it is": cells, "changed": cells})
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == ["day 1%", "day 10%"]
    assert lines[2:] == [
        [name, "0.5000 (0.25)", "0.5000 (0.25)"] for name in ("as it is", "changed")
    ]

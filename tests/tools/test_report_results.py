"""Result files are recognised by their fields, and what is none of them is told what it lacks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc.tools.page import read_results
from tieralloc.tools.page.results import Lines, Records, number

RECORD = {
    **{"policy": "lru", "trace": "t", "fast_fraction": 0.05, "fast_rows": 5, "lookups": 10},
    **{"on_demand_fetches": 4, "miss_ratio": 0.4},
}
LINE = {"line": 1, "title": "Hits", "findings": [{"what": "a", "unit": "x"}]}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


def written(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(tmp_path, content):
    with pytest.raises(ValueError, match=r"results\.json") as caught:
        read_results(written(tmp_path, content))
    return str(caught.value)


def test_a_list_of_records_is_recognised(tmp_path):
    assert read_results(written(tmp_path, [RECORD, RECORD])) == Records([RECORD, RECORD])


def test_records_may_lie_in_an_object_that_says_more(tmp_path):
    content = {"settings": {"a": 1}, "records": [RECORD]}
    assert read_results(written(tmp_path, content)) == Records([RECORD], {"settings": {"a": 1}})


def test_lines_of_findings_are_recognised(tmp_path):
    content = {"machine": "m", "lines": [LINE]}
    assert read_results(written(tmp_path, content)) == Lines([LINE], {"machine": "m"})


@pytest.mark.parametrize("key", RECORD)
def test_a_field_that_is_lacking_is_named_with_its_record(tmp_path, key):
    lacking = {name: value for name, value in RECORD.items() if name != key}
    message = refusal(tmp_path, [RECORD, lacking])
    assert f"lacks {key} in record number 1" in message
    assert "expected what tieralloc simulate" in message


@pytest.mark.parametrize(
    ("key", "value"), [("policy", 3), ("miss_ratio", "0.4"), ("lookups", None), ("lookups", True)]
)
def test_a_field_of_the_wrong_type_is_named_with_its_value(tmp_path, key, value):
    message = refusal(tmp_path, [{**RECORD, key: value}])
    assert f"has {key} {json.dumps(value)} in record number 0" in message


def test_figures_that_are_no_numbers_are_refused(tmp_path):
    text = json.dumps([RECORD]).replace("0.4", "NaN")
    assert "has miss_ratio NaN in record number 0, which is not a number" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        (b"\xff\xfe\x00".decode("latin-1"), "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        (3, "holds a number, neither a list of records nor an object"),
        ([], "holds no record"),
        ({"a": 1}, "is an object with neither 'records' nor 'lines'"),
        ({"records": {}}, "has an object where a list with each record should be"),
        ([1], "has a number as record number 0"),
        ({"lines": [{"line": 1}]}, "lacks title in line number 0"),
        ({"lines": [{"title": "t"}]}, "has null where a list with each finding of line 't'"),
        ({"lines": [{"title": "t", "findings": [{}]}]}, "lacks what, unit in finding of line 't'"),
    ],
)
def test_what_is_no_result_says_what_it_is(tmp_path, content, words):
    assert words in refusal(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_results(tmp_path / "nowhere.json")


@given(values)
def test_whatever_stands_at_a_place_a_number_is_finite_or_none(value):
    found = number({"a": {"b": value}}, "a", "b")
    assert found is None or (abs(found) < float("inf") and not isinstance(found, bool))
    assert found is None or found == value

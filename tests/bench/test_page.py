"""A page of results has every value, escapes text, and loads no other file."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from bench.page import write_page
from tieralloc.tools.conclusions import conclude
from tieralloc.tools.simulate import simulate
from tieralloc.trace import generate


class Reader(HTMLParser):
    """Collects the cells of tables, the tags and the addresses."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags, self.addresses, self.is_cell = [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        self.is_cell = tag in ("td", "th")
        if self.is_cell:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.is_cell = False

    def handle_data(self, data):
        if self.is_cell:
            self.cells[-1] += data


def page_of(content, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    return Reader(write_page(path, tmp_path / "out").read_text())


def test_page_of_policies_has_miss_ratios_and_a_plot(tmp_path):
    records = simulate(generate(num_samples=300, num_tables=2), ["lru", "opt"], [0.1, 0.2])
    page = page_of({"machine": "two cores", "records": records}, tmp_path)
    for record in records:
        assert f"{record['miss_ratio']:.4g}" in page.cells
    assert "svg" in page.tags
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.index(conclude(records)) < text.index("<table>")
    assert "device reads" in " ".join(page.cells)
    assert all(re.match("#|data:|http://www.w3.org", address) for address in page.addresses)


RESULTS = sorted((Path(__file__).parents[2] / "bench" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_page_of_each_kept_result_has_cells(path, tmp_path):
    page = Reader(write_page(path, tmp_path).read_text())
    assert len(page.cells) > 10
    assert "machine" in json.loads(path.read_text())


def test_page_escapes_text_of_the_file(tmp_path):
    page = page_of([{"what": "<script>alert(1)</script>", "value": 3}], tmp_path)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.cells


@pytest.mark.parametrize("content", [[], {}, 3, {"records": [1, 2]}])
def test_page_without_records_raises(content, tmp_path):
    with pytest.raises(ValueError, match="expected a list of records"):
        page_of(content, tmp_path)


def test_page_of_invalid_json_raises(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="expected JSON"):
        write_page(tmp_path / "results.json", tmp_path)

"""A page of results: all figures of the file, safe, and with nothing to be loaded."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieralloc.cli import main
from tieralloc.page import html, read_results, to_page, write_page
from tieralloc.page.results import Lines, Records
from tieralloc.replay import replay
from tieralloc.simulate import simulate
from tieralloc.trace import generate

pytest.importorskip("matplotlib")

RESULTS = Path(__file__).parents[1] / "bench" / "results"

#: Those whose records a page shows; the others are tables of studies.
WITH_RECORDS = ("policies", "dlrm", "peers")
SAVED = sorted(path for path in RESULTS.glob("*.json") if path.stem.startswith(WITH_RECORDS))
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and notes what does not fit."""

    def __init__(self):
        super().__init__()
        self.open, self.errors, self.cells, self.addresses, self.ids = [], [], [], [], []
        self.tags, self.words = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [
            (key, value)
            for key, value in attrs
            if key in ("src", "href", "xlink:href", "action", "data")
        ]
        self.errors += [f"{key} on {tag}" for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> where it is not open")

    def handle_data(self, data):
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.errors
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    return reader


def assert_loads_nothing(page):
    reader = read(page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "image"} & reader.tags
    for _, value in reader.addresses:
        assert value.startswith("#")
        assert value[1:] in reader.ids
    for used in re.findall(r"url\(([^)]*)\)", page):
        assert used.startswith("#")
        assert used[1:] in reader.ids
    assert "@import" not in page
    assert "default-src 'none'" in page


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=400, num_tables=2, name="small")


@pytest.fixture(scope="module")
def files(trace, tmp_path_factory):
    """A result file of each kind that the project writes, by its name."""
    folder = tmp_path_factory.mktemp("results")
    small = {"batch_size": 4, "embedding_dim": 4}
    records = {
        "simulated": simulate(trace, ["lru", "s3fifo", "opt"], [0.01, 0.05, 0.2]),
        "one": simulate(trace, ["lru"], [0.05]),
        "replayed": replay(trace, ["lru", "s3fifo"], [0.05, 0.2], **small),
        "loaded": replay(trace, ["lru"], [0.05], rates="auto", seconds=0.1, **small),
        "rates": replay(trace, ["lru"], [0.05], rates=[200, 1e6], seconds=0.1, **small),
    }
    made = {}
    for name, content in records.items():
        made[name] = folder / f"{name}.json"
        made[name].write_text(json.dumps(content))
    return made | {path.stem: path for path in SAVED}


KINDS = (
    *("simulated", "one", "replayed", "loaded", "rates"),
    *(path.stem for path in SAVED),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_each_kind_is_whole_and_loads_nothing(files, tmp_path, kind):
    page = write_page(files[kind], tmp_path / "new" / "page").read_text()
    assert_loads_nothing(page)
    assert [entry.name for entry in (tmp_path / "new" / "page").iterdir()] == ["index.html"]


def test_every_miss_ratio_stands_in_the_table_beside_lrus(files):
    records = json.loads(files["simulated"].read_text())
    cells = read(to_page(read_results(files["simulated"]), "r.json")).cells
    lru = {r["fast_fraction"]: r["miss_ratio"] for r in records if r["policy"] == "lru"}
    for record in records:
        ratio = record["miss_ratio"]
        beside = f"{ratio / lru[record['fast_fraction']]:.3f}"
        expected = f"{ratio:.4f}" + ("" if record["policy"] == "lru" else beside)
        assert expected in cells


def test_latencies_and_rates_stand_in_tables(files):
    for kind in ("replayed", "loaded"):
        cells = read(to_page(read_results(files[kind]), "r.json")).cells
        for record in json.loads(files[kind].read_text()):
            p99 = record["latency_us"]["p99"]
            assert (f"{p99:,.1f}" if p99 < 100 else f"{p99:,.0f}") in cells


def test_findings_stand_beside_their_targets():
    finding = {
        **{"what": "hits", "unit": "x", "target": "≥ 1", "reached": False, "note": "a note"},
        "value": {"median": 0.912, "low": 0.9, "high": 0.95, "count": 5},
        "figures": {"ours, rows/s": 1234.5, "theirs": "none"},
    }
    lacking = {"what": "misses", "unit": "x", "value": None, "target": None, "reached": None}
    line = {"line": 1, "title": "Hits", "findings": [finding, lacking]}
    cells = read(to_page(Lines([line]), "r.json")).cells
    assert {"hitsa note", "0.912 x0.9 to 0.95", "≥ 1", "no"} <= set(cells)
    assert {"misses", "not measured", "ours, rows/s", "1,234", "theirs", "none"} <= set(cells)


def test_seeds_of_a_cell_come_to_their_median(trace):
    (record,) = simulate(trace, ["lru"], [0.05])
    seeds = [{**record, "seed": i, "miss_ratio": ratio} for i, ratio in enumerate((0.1, 0.3, 0.8))]
    cells = read(to_page(Records(seeds), "r.json")).cells
    assert "0.3000" in cells
    assert "0.1000" not in cells


def test_figures_that_no_table_knows_are_shown_all_the_same(trace):
    records = simulate(trace, ["lru"], [0.05])
    page = to_page(Records([{**records[0], "coverage_of_rivals": 0.123}]), "r.json")
    cells = read(page).cells
    assert "coverage of rivals" in cells
    assert "0.123" in cells


def test_parts_of_a_requests_time_are_drawn(trace):
    records = simulate(trace, ["lru", "s3fifo"], [0.05])
    timed = [{**r, "time_us": {"embedding": 30.0, "MLPs": 10.0}} for r in records]
    page = to_page(Records(timed), "r.json")
    assert 'title="embedding: 30.0 µs"' in page
    assert "width:75.00%" in page


def test_settings_that_differ_are_told_apart(trace):
    records = simulate(trace, ["lru"], [0.05])
    placed = [{**records[0], "placement": name} for name in ("one core", "two cores")]
    words = " ".join(read(to_page(Records(placed), "r.json")).words)
    assert "placement: one core" in words
    assert "placement: two cores" in words


HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=1>&amp;"


def test_nothing_of_a_file_becomes_markup(trace):
    measured = replay(trace, ["lru", "s3fifo"], [0.05, 0.2], batch_size=4, embedding_dim=4)
    records = [
        {
            **record,
            "policy": f"{record['policy']}{HOSTILE}",
            **dict.fromkeys(("trace", "machine", "slow_tier", "rate_unit", HOSTILE), HOSTILE),
            "time_us": {HOSTILE: 3.0},
        }
        for record in measured
    ]
    page = to_page(Records(records, {HOSTILE: {HOSTILE: HOSTILE}, "title": HOSTILE}), HOSTILE)
    assert_loads_nothing(page)
    assert HOSTILE in "".join(read(page).words)
    finding = {
        **dict.fromkeys(("what", "unit", "target", "note"), HOSTILE),
        "figures": {HOSTILE: HOSTILE},
    }
    page = to_page(Lines([{"title": HOSTILE, "findings": [finding]}]), "r.json")
    assert_loads_nothing(page)


@given(st.text(), st.text())
def test_texts_come_back_as_they_were(one, other):
    made = html.table([one], [[other, html.Cell(one, other)]])
    reader = Reader()
    reader.feed(made)
    assert not reader.errors
    shown = [text.replace("\r\n", "\n").replace("\r", "\n") for text in (one, other, one + other)]
    found = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in reader.cells]
    assert found == shown


odd = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers())
FIELDS = ("latency_us", "loop", "offered_rate", "time_us", "prefetches_issued", "latency_curve_us")


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), odd), min_size=1, max_size=3))
def test_fields_of_no_sense_are_left_out(extra):
    base = {
        **{"policy": "lru", "trace": "t", "fast_fraction": 0.05, "fast_rows": 5, "lookups": 10},
        **{"on_demand_fetches": 4, "miss_ratio": 0.4},
    }
    assert_loads_nothing(to_page(Records([{**base, **more} for more in extra]), "r.json"))


def test_the_command_writes_the_page_and_says_where(files, tmp_path, capsys):
    assert main(["report", str(files["one"]), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"wrote {tmp_path / 'index.html'}\n"
    assert "small" in (tmp_path / "index.html").read_text()


def test_the_command_tells_in_a_line_what_is_wrong(tmp_path, capsys):
    strange = tmp_path / "strange.json"
    strange.write_text('{"benchmarks": []}')
    assert main(["report", str(strange), "--out", str(tmp_path / "page")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tieralloc: error: ")
    assert "neither 'records' nor 'lines'" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "page").exists()
    assert main(["report", str(tmp_path / "none.json"), "--out", str(tmp_path)]) == 1
    assert "none.json: No such file" in capsys.readouterr().err


def test_a_directory_that_is_a_file_is_told(files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["report", str(files["one"]), "--out", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert main(["report", str(files["one"]), "--out", str(tmp_path)]) == 1
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

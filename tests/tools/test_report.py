"""Tables, JSON and plots of records."""

import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc.tools import report
from tieralloc.tools.plots import rates as _rate_plot
from tieralloc.tools.plots.parts import styles_of
from tieralloc.tools.plots.records import check_plot, draw, plot
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import policy_names, simulate
from tieralloc.trace import generate

FRACTIONS = (0.01, 0.05, 0.2)


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=400, num_tables=2, name="small")


@pytest.fixture(scope="module")
def simulated(trace):
    return simulate(trace, policy_names(), FRACTIONS)


@pytest.fixture(scope="module")
def replayed(trace):
    return replay(trace, ["lru", "s3fifo"], FRACTIONS, batch_size=4, embedding_dim=4)


@pytest.fixture(scope="module")
def loaded(trace):
    """Open-loop records with enough calls for a p99, saturated and not."""
    settings = {"batch_size": 1, "embedding_dim": 4, "seconds": 0.2}
    return [
        *replay(trace, ["lru", "s3fifo"], [0.05], rates="auto", **settings),
        *replay(trace, ["lru"], [0.2], rates=[1000, 1e6], **settings),
    ]


@given(st.lists(st.lists(st.text("ab.µ", max_size=5), min_size=3, max_size=3), min_size=1))
def test_align_cells_end_with_their_column(lines):
    first, second, third = (max(len(line[column]) for line in lines) for column in range(3))
    for text, cells in zip(report.align(lines).split("\n"), lines, strict=True):
        padded = text.ljust(first + 2 + second + 2 + third)
        assert padded[:first].rstrip() == cells[0]
        assert padded[first + 2 : first + 2 + second].lstrip() == cells[1]
        assert padded[first + 2 + second + 2 :].lstrip() == cells[2]
        assert len(padded) == first + 2 + second + 2 + third


def test_miss_ratio_table_places_each_ratio(simulated):
    header, rows, rule, *lines = report.miss_ratio_table(simulated).splitlines()
    assert header.split() == ["fast", "÷", "distinct", "1%", "5%", "20%"]
    assert [int(cell.replace(",", "")) for cell in rows.split()[2:]] == [
        record["fast_rows"] for record in simulated[:3]
    ]
    assert set(rule) == {"-"}
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(cells) == policy_names()
    for record in simulated:
        cell = cells[record["policy"]][FRACTIONS.index(record["fast_fraction"])]
        assert cell == f"{record['miss_ratio']:.4f}"


def test_device_reads_table_places_each_figure(trace):
    records = simulate(trace, ["lru", "opt"], FRACTIONS, batch_size=4, embedding_dim=150)
    first = records[0]
    records[2] |= {"prefetches_issued": 9, "prefetch_device_reads": 5}
    conditions, header, rule, *lines = report.device_reads_table(records).splitlines()
    calls = f"requests: {first['calls']:,} of 4 samples"
    assert conditions == f"{calls}; pages: 6 rows of 150 x float32"
    assert re.split("  +", header) == ["device reads per request", "1%", "5%", "20%"]
    assert set(rule) == {"-"}
    cells = {cells[0]: cells[1:] for cells in (re.split("  +", line) for line in lines)}
    assert list(cells) == ["lru", "lru: prefetches", "opt"]
    assert cells["lru: prefetches"] == ["0.000", "0.000", f"{5 / first['calls']:.3f}"]
    for record in records:
        reads = record["on_demand_device_reads"] / record["calls"]
        column = FRACTIONS.index(record["fast_fraction"])
        assert cells[record["policy"]][column] == f"{reads:.3f}"


def test_miss_ratio_table_missing_capacity_is_a_dash(simulated):
    last = report.miss_ratio_table(simulated[:4]).splitlines()[-1]
    assert last.split()[2:] == ["-", "-"]


def test_replay_table_has_a_line_per_record(replayed, simulated):
    text = report.replay_table([*replayed, simulated[-1]])
    tables = text.split(" of the trace's distinct rows in the fast tier: ")[1:]
    assert len(tables) == len(FRACTIONS)
    for table, fraction in zip(tables, FRACTIONS, strict=True):
        rows, _, header, _, *lines = table.splitlines()[:6]
        own = [record for record in replayed if record["fast_fraction"] == fraction]
        assert {int(rows.replace(",", ""))} == {record["fast_rows"] for record in own}
        columns = re.split("  +", header)
        for line, record in zip(lines, own, strict=True):
            cells = dict(zip(columns, re.split("  +", line), strict=True))
            assert cells["policy"] == record["policy"]
            assert cells["rows/s"] == report.short(record["rows_per_second"])
            assert cells["quartiles"].count("-") == 1
            assert cells["miss ratio"] == f"{record['miss_ratio']:.4f}"
            assert cells["device reads"] == f"{record['device_reads'] / record['lookups']:.4f}"
            assert cells["per request"] == f"{record['device_reads_per_request']:.3g}"
        assert "p50 µs" in columns  # of 50 calls
        assert not {"p99 µs", "p99.9 µs"} & set(columns)
    assert text.splitlines()[-1].split()[:4] == ["opt", "-", "-", "-"]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_align_folds_wide_tables(width):
    lines = [[f"{'abc'[row]}.{column:02}.cell" for column in range(12)] for row in range(3)]
    text = report.align(lines, rule_after=1, width=width)
    assert max(map(len, text.splitlines())) <= width
    for row in lines:
        assert text.count(row[0]) == text.count("\n\n") + 1 > 1
        assert all(text.count(cell) == 1 for cell in row[1:])


def test_align_text_breaks_the_last_column():
    lines = [["a", "word " * 9], ["bb", "short"]]
    text = report.align(lines, numbers=False, width=30)
    assert text.splitlines() == [
        "a   word word word word word",
        "    word word word word",
        "bb  short",
    ]


def test_printed_tables_fold_at_the_width_of_the_terminal(replayed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, report.replay_table(replayed).splitlines())) <= 60


def test_open_loop_table_has_a_line_per_record(loaded):
    lines = report.open_loop_table(loaded, width=200).splitlines()
    assert len(lines) == 2 + len(loaded)
    for line, record in zip(lines[2:], loaded, strict=True):
        assert line.startswith(record["policy"])
        assert ("closed loop" in line) == (record["loop"] == "closed")
        assert line.endswith("saturated") == record.get("saturated", False)
        assert f"{record['calls']:,}" in line.split()
        assert report.rate(record["achieved_rate"]) in line.split()
    assert "1,000,000" in lines[-1].split()


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (12.345, "12.3"), (99.94, "99.9"), (12345.6, "12,346")]
)
def test_rate_has_three_digits_or_is_an_integer(value, text):
    assert report.rate(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.05, "5%"), (0.0025, "0.25%"), (1, "100%"), (0.29, "29%")]
)
def test_percent_has_no_trailing_zeros(fraction, text):
    assert report.percent(fraction) == text


def test_reuse_table_shows_shares_of_trace_and_meta(trace):
    lines = [line.split() for line in report.reuse_table(trace).splitlines()[2:]]
    shares, published = ([float(line[column]) for line in lines] for column in (-2, -1))
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert published[:3] == [0.069, 0.044, 0.068]


def test_write_json_round_trips(replayed, tmp_path):
    report.write_json(replayed, tmp_path / "records.json")
    assert json.loads((tmp_path / "records.json").read_text()) == replayed


def test_write_json_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "records.json"
    path.write_text("old content")
    with pytest.raises(TypeError):
        report.write_json([{"policy": object()}], path)
    assert path.read_text() == "old content"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_suffix_sets_the_format(replayed, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    plot(replayed, tmp_path / f"plot{suffix}")
    content = (tmp_path / f"plot{suffix}").read_bytes()
    assert {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in content[:2000]
    assert len(list(tmp_path.iterdir())) == 1


def figures(simulated, replayed, loaded):
    one_fraction = [record for record in replayed if record["fast_fraction"] == 0.05]
    return {
        "curves": draw(simulated),
        "curves and latencies": draw([*replayed, *simulated[-3:]]),
        "one capacity": draw(one_fraction),
        "one policy": draw(replayed[:1]),
        "rates": draw(loaded),
        "one rate": draw(loaded[-1:]),
    }


def test_draw_no_text_is_cut_off(simulated, replayed, loaded):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for name, figure in figures(simulated, replayed, loaded).items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        bounds = figure.bbox
        texts = [figure._suptitle, figure._supxlabel]
        for axes in figure.axes:
            if axes.get_visible():
                texts += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.texts]
        texts += [text for legend in figure.legends for text in legend.get_texts()]
        for text in texts:
            box = text.get_window_extent(canvas.get_renderer())
            is_inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= bounds.x1 and box.y1 <= bounds.y1
            assert is_inside or not text.get_text(), (name, text.get_text(), box)


def test_draw_names_each_policy_and_the_trace(simulated, replayed, loaded):
    pytest.importorskip("matplotlib")
    for name, figure in figures(simulated, replayed, loaded).items():
        assert figure._supxlabel.get_text().startswith("small")
        assert figure._suptitle.get_text().startswith("At a fast fraction of")
        names = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
        names |= {label.get_text() for label in figure.axes[0].get_yticklabels()}
        expected = {"curves": set(policy_names()), "one policy": {"lru"}, "one rate": {"lru"}}
        assert expected.get(name, {"lru", "s3fifo"}) <= names


def test_styles_do_not_repeat_within_a_plot():
    names = [*(f"policy {number}" for number in range(20)), "opt"]
    styles = styles_of([{"policy": name, "fast_rows": 1} for name in names]).values()
    assert len({str(style["color"]) for style in styles}) == 21
    assert len({str(style["marker"]) for style in styles}) == 21


def test_plot_shows_device_reads_of_prefetching_policies(simulated):
    pytest.importorskip("matplotlib")
    prefetching = [
        {**r, "prefetches_issued": 100, "device_reads": r["on_demand_fetches"] + 100}
        for r in simulated
        if r["policy"] == "lru"
    ]
    figure = draw([*prefetching, *(r for r in simulated if r["policy"] == "opt")])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["On-demand fetches", "Device reads: on-demand fetches and prefetches"]
    drawn = {tuple(line.get_ydata()) for line in figure.axes[1].lines}
    assert tuple(r["device_reads"] / r["lookups"] for r in prefetching) in drawn


def test_draw_shows_device_reads_of_requests(trace):
    pytest.importorskip("matplotlib")
    records = simulate(trace, ["lru", "opt"], [0.05, 0.2], batch_size=8)
    axes = draw(records).axes[1]
    assert axes.get_ylabel() == "device reads per request"
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    for policy in ("lru", "opt"):
        own = (r["device_reads_per_request"] for r in records if r["policy"] == policy)
        assert tuple(own) in drawn


def test_draw_line_passes_through_miss_ratios(simulated):
    pytest.importorskip("matplotlib")
    figure = draw(simulated)
    drawn = {tuple(line.get_ydata()) for line in figure.axes[0].lines}
    for policy in policy_names():
        assert tuple(r["miss_ratio"] for r in simulated if r["policy"] == policy) in drawn


def test_draw_line_passes_through_sustained_latencies(loaded):
    pytest.importorskip("matplotlib")
    figure = draw(loaded)
    for axes, percentile in zip(figure.axes[:1], ("p50",), strict=True):
        drawn = {point for line in axes.lines for point in zip(*line.get_data(), strict=True)}
        closed_rates = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"}
        for policy in ("lru", "s3fifo"):
            records = [r for r in loaded if (r["policy"], r["fast_fraction"]) == (policy, 0.05)]
            assert records[0]["achieved_rate"] in closed_rates
            for record in records[1:]:
                point = (record["offered_rate"], record["latency_us"][percentile])
                if record["calls"] >= 20 and not record["saturated"]:
                    assert point in drawn


def test_draw_percentile_with_too_few_calls_is_omitted(loaded):
    pytest.importorskip("matplotlib")
    assert all(record["calls"] < 1000 for record in loaded)
    panels = {axes.get_title(loc="left"): axes for axes in draw(loaded).axes}
    axes = panels["p99.9, fast fraction 5%"]
    assert not axes.lines
    assert [text.get_text() for text in axes.texts] == ["needs 10,000 calls or more at a rate"]


@given(st.lists(st.booleans(), max_size=6), st.randoms())
def test_up_to_saturation_ends_after_last_sustained_rate(saturated, random):
    records = [
        {"loop": "open", "offered_rate": 100 * (i + 1), "saturated": is_saturated}
        for i, is_saturated in enumerate(saturated)
    ]
    shuffled = [*records, {"loop": "closed"}]
    random.shuffle(shuffled)
    drawn = _rate_plot._up_to_saturation(shuffled)
    assert drawn == records[: len(drawn)]
    assert all(saturated[len(drawn) :])
    assert [record["saturated"] for record in drawn[-2:]] != [True, True]


def test_check_plot_without_matplotlib_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"pip install 'tieralloc\[plot\]'"):
        check_plot(tmp_path / "plot.png")


def test_plot_unknown_format_raises(simulated, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"plot\.xls: unknown image format"):
        plot(simulated, tmp_path / "plot.xls")
    assert not list(tmp_path.iterdir())

"""`python -m bench.policies`: a quick run, merged results, and tables."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_traces import reference

from bench.policies import libcachesim_caches, tables
from bench.policies.__main__ import main, merge
from bench.policies.compared import BASELINES, CHECKS, LABELS, LEARNED, LIBCACHESIM, LRU, OPT
from bench.policies.tables import Grid
from tieralloc import trace
from tieralloc._bindings import Simulator
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

LOOKUPS = 1000
CELLS = [("t", 0.05), ("t", 0.2)]

needs_libcachesim = pytest.mark.skipif(
    libcachesim_caches.refusal() is not None, reason=str(libcachesim_caches.refusal())
)


def record(policy, misses=500, cell=CELLS[0], **changed):
    return {
        "policy": policy,
        "trace": cell[0],
        "fast_fraction": cell[1],
        "fast_rows": round(1000 * cell[1]),
        "lookups": LOOKUPS,
        "on_demand_fetches": misses,
        "miss_ratio": misses / LOOKUPS,
        "cpu_us_per_access": 1.0,
    } | changed


def read_results(directory):
    return json.loads((directory / "policies.json").read_text())


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Return exit code and result file of a quick run of all policies available here."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("quick")
    return main(["--quick", "--out", str(out)]), read_results(out)


def test_quick_run_measures_all_policies(quick):
    code, content = quick
    assert code == 0
    missing = set(LABELS) - {r["policy"] for r in content["records"]}
    assert missing == (set(LIBCACHESIM) if libcachesim_caches.refusal() else set())
    assert content["machine"]
    assert content["command"].startswith("python -m bench.policies --quick")
    for r in content["records"]:
        assert r["miss_ratio"] == pytest.approx(r["on_demand_fetches"] / r["lookups"], rel=1e-3)
        assert r["cpu_us_per_access"] > 0
        assert ("training_cpu_seconds" in r) == (r["policy"] in LEARNED)


def test_policy_without_prefetching_misses_at_least_opt(quick):
    records = quick[1]["records"]
    opt = {r["fast_fraction"]: r["on_demand_fetches"] for r in records if r["policy"] == OPT}
    for r in records:
        if "prefetches_issued" not in r:
            assert r["on_demand_fetches"] >= opt[r["fast_fraction"]]


def test_only_option_keeps_other_policies_of_results(tmp_path, capsys):
    assert main(["--quick", "--out", str(tmp_path), "--only", LRU, "s3fifo", OPT]) == 0
    before = read_results(tmp_path)["records"]
    assert main(["--quick", "--out", str(tmp_path), "--only", OPT]) == 0
    after = read_results(tmp_path)["records"]
    assert [r["policy"] for r in after] == [r["policy"] for r in before]
    assert [r for r in after if r["policy"] != OPT] == [r for r in before if r["policy"] != OPT]
    capsys.readouterr()
    assert main(["--show", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == tables.page(after)


def test_given_traces_are_measured(tmp_path):
    trace.write(trace.generate(num_samples=500, name="x"), tmp_path / "one.npz")
    out = tmp_path / "out"
    assert main(["--traces", str(tmp_path), "--only", LRU, OPT, "--out", str(out)]) == 0
    assert {r["trace"] for r in read_results(out)["records"]} == {"one"}
    assert str(tmp_path) not in (out / "policies.json").read_text()
    with pytest.raises(SystemExit, match="no trace in"):
        main(["--traces", str(tmp_path / "nowhere")])


@needs_libcachesim
def test_failed_policy_is_reported(tmp_path, monkeypatch, capsys):
    # The child process has no policy of this name.
    monkeypatch.setattr("bench.policies.measure.LIBCACHESIM", {"ARC": "ARC", "none": "x"})
    monkeypatch.setattr("bench.policies.__main__.LABELS", (LRU, "none"))
    assert main(["--quick", "--out", str(tmp_path), "--only", LRU, "none"]) == 1
    assert "not measured: none on generated" in capsys.readouterr().err
    assert {r["policy"] for r in read_results(tmp_path)["records"]} == {LRU}


def test_merge_replaces_measured_policies():
    other = record(LRU, 4, cell=("other", 0.05))
    older = [other, record(LRU, 1), record(OPT, 2), record("recmg", 3)]
    merged = merge(older, [record("recmg", 5)])
    assert merged == [other, record(LRU, 1), record("recmg", 5), record(OPT, 2)]
    assert merge(merged, [record("recmg", 5)]) == merged


@pytest.mark.parametrize(
    "changed", [{"fast_rows": 1}, {"lookups": 9}, {"fast_fraction": 0.3}, {"policy": "forgotten"}]
)
def test_merge_drops_records_of_other_settings(changed):
    assert merge([record(LRU) | changed], [record(OPT)]) == [record(OPT)]


counts = st.integers(1, LOOKUPS)
grids = st.fixed_dictionaries({label: st.tuples(counts, counts) for label in LABELS})


def records_of(grid):
    return [
        record(label, count, cell)
        for label, of_label in grid.items()
        for cell, count in zip(CELLS, of_label, strict=True)
    ]


@given(grids)
def test_gain_is_0_for_lru_and_1_for_opt(grid):
    cells = Grid(records_of(grid))
    for cell in CELLS:
        lru, opt = cells.at(LRU, cell)["miss_ratio"], cells.at(OPT, cell)["miss_ratio"]
        if lru == opt:
            assert cells.gain("recmg", cell) is None
            continue
        assert cells.gain(LRU, cell)[::2] == (1, 0)
        assert cells.gain(OPT, cell).gap_closed == 1
        gap = cells.gain("recmg", cell).gap_closed
        assert lru - gap * (lru - opt) == pytest.approx(cells.at("recmg", cell)["miss_ratio"])
        assert cells.best(cell)["policy"] in BASELINES
        assert all(cells.gain(label, cell).to_best >= 1 for label in BASELINES)


@given(grids)
def test_page_counts_cells_below_the_best_baseline(grid):
    cells = Grid(records_of(grid))
    text = tables.page(records_of(grid))
    for label in LEARNED:
        gains = [gain for cell in CELLS if (gain := cells.gain(label, cell))]
        below = sum(gain.to_best < 1 for gain in gains)
        if gains:
            assert f"- {label}: below the best baseline in {below} of {len(gains)} cells" in text


def test_page_of_some_policies_has_dashes():
    text = tables.page([record(LRU), record("recmg", 250, prefetches_issued=400)])
    assert "| recmg  | **0.2500** |" in text
    assert "| recmg  | 0.400, 0.0% |" in text
    assert "not comparable" in text
    assert tables.page([]) == "Nothing was measured."


@given(counts, counts)
def test_differences_name_unequal_counts(own, theirs):
    lines = tables.differences([record(LRU, own), record(CHECKS[LRU], theirs)])
    assert bool(lines) == (own != theirs)


@needs_libcachesim
@settings(max_examples=20)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 8), st.floats(0, 0.9))
def test_libcachesim_lru_counts_equal_ours(accesses, capacity, count_from):
    stream = np.array(accesses, dtype=np.uint64)
    counted = first_counted(len(stream), count_from)
    ours = Simulator(LRU, capacity, 13, count_from=counted)
    ours.run(stream)
    theirs = libcachesim_caches.count("LRU", stream, capacity, counted)
    assert theirs == {name: ours.counts[name] for name in theirs}


# Miss ratios of libcachesim 0.3.5 at 5 %, second half. LHD is random and LRB slow.
KNOWN_RATIOS = {
    "trivago": {"CLOCK": 0.2152, "ARC": 0.2158, "SIEVE": 0.2214, "2Q": 0.2167}
    | {"W-TinyLFU": 0.3128, "3L-Cache": 0.2176},
    "diginetica": {"CLOCK": 0.6991, "ARC": 0.6657, "SIEVE": 0.6612, "2Q": 0.6392}
    | {"W-TinyLFU": 0.6146, "3L-Cache": 0.6188},
}


@needs_libcachesim
@pytest.mark.parametrize("name", KNOWN_RATIOS)
def test_libcachesim_on_real_traces_has_known_ratios(name):
    made = reference(name)
    stream = made.accesses()
    counted = first_counted(len(stream), 0.5)
    capacity = fast_rows(0.05, count_distinct(stream, int(made.num_embeddings.sum())))
    for label, expected in KNOWN_RATIOS[name].items():
        counts = libcachesim_caches.count(LIBCACHESIM[label], stream, capacity, counted)
        ratio = counts["on_demand_fetches"] / counts["lookups"]
        assert ratio == pytest.approx(expected, abs=2e-4), label

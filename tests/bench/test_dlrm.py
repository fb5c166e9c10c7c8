"""The DLRM experiment: a quick run; requests, prefetches of queued requests, and tables."""

import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.dlrm import model, tables
from bench.dlrm.__main__ import main
from bench.dlrm.baselines import BASELINES, FEW, IN_STORE, IN_TORCH, LRU, SHORT
from bench.dlrm.lookahead import Lookahead
from bench.dlrm.requests import Requests
from bench.dlrm.settings import QUICK
from bench.scenery.results import from_columns, read_json
from tieralloc import trace

CONTRACT = {
    *("policy", "trace", "fast_fraction", "fast_rows", "lookups", "hits", "on_demand_fetches"),
    *("miss_ratio", "prefetches_issued", "prefetches_useful", "prefetches_late", "evictions"),
    *("loop", "rate_unit", "achieved_rate", "latency_us", "dram_bytes"),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Return the records, page and JSON file of a quick run."""
    if model.refusal() is not None:
        pytest.skip(model.refusal())
    out = tmp_path_factory.mktemp("dlrm")
    assert main(["--quick", "--out", str(out)]) == 0
    content = read_json(out / "dlrm.json")
    return from_columns(content), tables.markdown(content), out / "dlrm.json"


@pytest.fixture
def closed(quick):
    return {record["policy"]: record for record in quick[0] if record["loop"] == "closed"}


def test_quick_run_has_all_baselines_and_contract_fields(quick, closed):
    records, page, _ = quick
    assert {*closed} == {*FEW}
    assert {r["policy"] for r in records if r["loop"] == "open"} == {*FEW} & {*SHORT}
    for record in records:
        assert f"| {record['policy']} " in page
        assert record.keys() >= CONTRACT
        assert ("offered_rate" in record) == (record["loop"] == "open")
        assert record["hits"] + record["on_demand_fetches"] == record["lookups"]
        assert record["latency_us"]["p50"] <= record["latency_us"]["p99"]
        if record["loop"] == "closed":
            whole = sum(record["time_us"].values())
            assert whole * record["achieved_rate"] == pytest.approx(1e6, rel=0.01)
        if record["policy"] == LRU:
            assert record["time_to_lru"]["median"] == 1


def test_page_begins_with_the_shortest_time(quick, closed):
    times = {policy: record["time_to_lru"]["median"] for policy, record in closed.items()}
    best = min({*times} - {IN_TORCH, IN_STORE}, key=times.__getitem__)
    assert f": {best} takes {times[best]:.2f} of the time of lru" in quick[1].split("\n\n")[1]


def test_baselines_look_up_the_same_rows(closed):
    assert {record["lookups"] for record in closed.values()} == {closed[LRU]["lookups"]}
    fetches = [closed[label]["on_demand_fetches"] for label in (IN_TORCH, IN_STORE)]
    assert (fetches, closed[LRU]["on_demand_fetches"] > 0) == ([0, 0], True)


def test_baseline_with_queue_prefetches_requests(closed):
    queued = closed["lru + 2 ahead"]
    # On a busy machine the prefetches are late.
    assert queued["prefetches_useful"] + queued["prefetches_late"] > 0
    assert closed[LRU]["prefetches_issued"] == 0


def test_learned_policy_runs_and_counts_its_cpu_time(closed):
    record = closed["recmg (never paused)"]
    stats = record["policy_stats"]
    assert stats["state"] == "running"
    assert 0 < stats["observed_share"] <= 1
    assert record["cpu_us"]["policy"] > 0
    assert closed["recmg"]["policy_stats"]["state"] in ("running", "paused")
    assert "policy_stats" not in closed[LRU]
    assert closed[LRU]["cpu_us"]["policy"] == 0


def test_results_contain_no_directory(quick):
    _, page, path = quick
    for text in (page, path.read_text()):
        assert str(path.parent) not in text


def test_command_without_torchrec_skips_with_reason(monkeypatch, capsys):
    monkeypatch.setattr("bench.dlrm.__main__.refusal", lambda: "torchrec is not there")
    assert main(["--quick"]) == 0
    assert capsys.readouterr().out == "skipped: torchrec is not there\n"
    assert main([]) == 1


def test_baseline_labels_name_policies_queues_and_pauses():
    assert {"lru", "s3fifo", "recmg-paper", "recmg-caching", "recmg"} <= {*BASELINES}
    assert {"lru + 4 ahead", "recmg (never paused) + 2 ahead"} <= {*BASELINES}
    assert {*SHORT, *FEW} <= {*BASELINES}


@pytest.fixture(scope="module")
def requests():
    return Requests(trace.generate(num_samples=700, num_tables=3, name="small"), QUICK)


def test_requests_counted_follow_the_warm_up(requests):
    trace, size = requests.trace, QUICK.batch_size
    warm = [*trace.samples(0, requests.boundary).batches(size)][-QUICK.max_requests :]
    for own, expected in zip(requests.warm_up, warm, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(own, expected, strict=True))
    assert all(len(offsets) == 3 * size + 1 for _, offsets in requests.counted)
    assert requests.dense.shape[:2] == (len(requests.counted), size)
    numbers = [number for segment in requests.segments() for number in segment]
    assert numbers == list(range(len(requests.counted)))


def test_policy_thread_is_pinned_and_observes_all_accesses(requests, tmp_path):
    if model.refusal() is not None:
        pytest.skip(model.refusal())
    from bench.dlrm.server import Server, _policy_threads
    from bench.scenery.trained import train

    directory, _ = train(requests.trace, "recmg-paper", tmp_path, fast_fractions=[0.2], epochs=1)
    before = _policy_threads()
    baseline = BASELINES["recmg-paper (never paused)"]
    server = Server(requests, baseline, tmp_path / "slow.tier", 500, 1 << 20, directory, None)
    try:
        server.pin_policy(tuple(sorted(os.sched_getaffinity(0))[:1]))
        (thread,) = {*_policy_threads()} - {*before}
        assert len(os.sched_getaffinity(thread)) == 1
        server.warm()
        deadline = time.monotonic() + 20
        while (stats := server.about()["policy_stats"])["observed_share"] < 1:
            assert stats["state"] == "running"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server._cpu()["policy"] > 0
    finally:
        server.close()


events = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=30)


@given(events, st.integers(0, 5), st.integers(0, 5), st.integers(0, 20))
def test_lookahead_prefetches_queued_requests_once_in_order(events, queued, first, count):
    prefetched = []
    serving, arrived, end = first, first, first + count
    lookahead = Lookahead(prefetched.append, queued, range(first, end))
    for is_arrival, number in events:
        before = len(prefetched)
        if is_arrival:
            arrived = max(arrived, number)
            lookahead.arrived(number)
        else:
            serving = max(serving, number)
            lookahead.serving(number)
        for new in prefetched[before:]:
            assert serving < new <= serving + queued
            assert new < min(arrived, end)
    assert prefetched == sorted({*prefetched})


@given(st.integers(0, 5), st.integers(1, 30))
def test_lookahead_with_full_queue_prefetches_in_time(queued, count):
    prefetched = []
    lookahead = Lookahead(prefetched.append, queued, range(count))
    lookahead.arrived(count)
    for number in range(count):
        lookahead.serving(number)
        expected = range(1, min(count, number + queued + 1)) if queued else range(0)
        assert {*prefetched} == {*expected}

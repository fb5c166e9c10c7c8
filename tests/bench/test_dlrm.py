"""The command, its whole way on a small generated trace; and what its requests and tables say."""

import json
import os
import time

import numpy as np
import pytest

from bench.dlrm import model, tables
from bench.dlrm.__main__ import main
from bench.dlrm.contenders import CONTENDERS, IN_DRAM, LABELS, LRU
from bench.dlrm.requests import Requests
from bench.dlrm.settings import QUICK
from tieralloc import trace
from tieralloc.tools.page import read_results, to_page

CONTRACT = {
    *("policy", "trace", "fast_fraction", "fast_rows", "lookups", "hits", "on_demand_fetches"),
    *("miss_ratio", "prefetches_issued", "prefetches_useful", "prefetches_late", "evictions"),
    *("loop", "rate_unit", "offered_rate", "achieved_rate", "latency_us", "dram_bytes", "machine"),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run: its exit code, content and table."""
    if model.refusal() is not None:
        pytest.skip(model.refusal())
    out = tmp_path_factory.mktemp("dlrm")
    code = main(["--quick", "--out", str(out)])
    (found,) = out.glob("dlrm-*.json")
    return code, json.loads(found.read_text()), (out / "dlrm.md").read_text(), found


def test_a_quick_run_serves_all_that_it_should_and_refuses_none(quick):
    code, content, table, _ = quick
    assert (code, content["refused"]) == (0, {})
    closed = {r["policy"] for r in content["records"] if r["loop"] == "closed"}
    assert closed == {c.label for c in CONTENDERS if c.in_quick}
    assert {IN_DRAM, LRU} <= closed
    for label in closed:
        assert f"| {label} |" in table


def test_its_records_have_the_fields_of_the_contract(quick):
    _, content, _, _ = quick
    for record in content["records"]:
        assert record.keys() >= CONTRACT
        assert record["hits"] + record["on_demand_fetches"] == record["lookups"]
        assert record["latency_us"]["p50"] <= record["latency_us"]["p99"]
        assert all(part >= 0 for part in record["time_us"].values())
        if record["loop"] == "closed":
            whole = sum(record["time_us"].values()) * record["calls"]
            assert whole * record["achieved_rate"] / record["calls"] == pytest.approx(1e6, rel=0.01)
        if record["policy"] == LRU:
            assert record["time_to_lru"]["median"] == 1


def test_all_in_dram_fetches_nothing_and_all_look_up_the_same_rows(quick):
    _, content, _, _ = quick
    closed = {r["policy"]: r for r in content["records"] if r["loop"] == "closed"}
    assert {record["lookups"] for record in closed.values()} == {closed[LRU]["lookups"]}
    assert closed[IN_DRAM]["on_demand_fetches"] == 0
    assert closed["all in DRAM, store"]["on_demand_fetches"] == 0
    assert closed[LRU]["on_demand_fetches"] > 0


def test_what_is_queued_is_fetched_ahead(quick):
    _, content, _, _ = quick
    closed = {r["policy"]: r for r in content["records"] if r["loop"] == "closed"}
    ahead = closed["lru + 2 ahead"]
    # How many are there in time is a matter of how busy the machine is.
    assert ahead["prefetches_issued"] > 0
    assert ahead["prefetches_useful"] + ahead["prefetches_late"] > 0
    assert closed[LRU]["prefetches_issued"] == 0


def test_a_learned_policy_is_seen_at_work(quick):
    _, content, _, _ = quick
    closed = {r["policy"]: r for r in content["records"] if r["loop"] == "closed"}
    at_work = closed["recmg (never paused)"]
    stats = at_work["policy_stats"]
    assert (stats["state"], stats["pauses"]) == ("running", 0)
    assert 0 < stats["observed_share"] <= 1
    assert at_work["cpu_us"]["policy"] > 0
    assert closed["recmg"]["policy_stats"]["state"] in ("running", "paused")
    assert "policy_stats" not in closed[LRU]
    assert closed[LRU]["cpu_us"]["policy"] == 0


def test_its_file_makes_a_page(quick):
    _, _, _, path = quick
    page = to_page(read_results(path), path.name)
    assert "A DLRM served end to end" in page
    assert "Where the time goes" in page


def test_results_name_no_directory_of_this_machine(quick):
    _, _, table, path = quick
    for text in (table, path.read_text()):
        assert str(path.parent) not in text


def test_without_torchrec_it_is_skipped_with_its_reason(monkeypatch, capsys):
    monkeypatch.setattr("bench.dlrm.__main__.refusal", lambda: "torchrec is not there")
    assert main(["--quick"]) == 0
    assert capsys.readouterr().out == "skipped: torchrec is not there\n"
    assert main([]) == 1


def test_labels_tell_contenders_apart_and_say_what_they_do():
    assert len(set(LABELS)) == len(CONTENDERS)
    assert {"lru", "s3fifo", "recmg-paper", "recmg-caching", "recmg"} <= set(LABELS)
    assert {f"{name} + {n} ahead" for name in ("lru", "recmg") for n in (1, 2, 4)} <= set(LABELS)
    assert "recmg-paper without prefetching (never paused)" in LABELS


@pytest.fixture(scope="module")
def requests():
    return Requests(trace.generate(num_samples=700, num_tables=3, name="small"), QUICK)


def test_counted_requests_go_on_where_the_warm_up_ends(requests):
    made, size = requests.trace, QUICK.batch_size
    warm = [*made.samples(0, requests.boundary).batches(size)][-QUICK.most_requests :]
    for own, expected in zip(requests.warm_up, warm, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(own, expected, strict=True))
    assert all(len(offsets) == 3 * size + 1 for _, offsets in requests.counted)
    assert requests.dense.shape[:2] == (len(requests.counted), size)


def test_segments_are_all_counted_requests_in_order(requests):
    numbers = [number for segment in requests.segments() for number in segment]
    assert numbers == list(range(len(requests.counted)))


def test_what_no_cache_avoids_is_what_a_plain_count_says(requests):
    def rows(batch):
        indices, offsets = batch
        of_table = [offsets[t * QUICK.batch_size] for t in range(4)]
        return [
            (t, row) for t in range(3) for row in indices[of_table[t] : of_table[t + 1]].tolist()
        ]

    size = 3 * QUICK.batch_size + 1
    seen = set()
    for batch in requests.warm_up:
        indices, offsets = batch
        samples = (len(offsets) - 1) // 3
        for t in range(3):
            begin, end = offsets[t * samples], offsets[(t + 1) * samples]
            seen |= {(t, row) for row in indices[begin:end].tolist()}
    lookups = repeated = compulsory = 0
    for batch in requests.counted:
        assert len(batch[1]) == size
        asked = rows(batch)
        lookups += len(asked)
        repeated += len(asked) - len(set(asked))
        compulsory += len(set(asked) - seen)
        seen |= set(asked)
    found = requests.unavoidable()
    assert found["lookups"] == lookups
    assert found["repeated"] == pytest.approx(repeated / lookups)
    assert found["compulsory"] == pytest.approx(compulsory / lookups)


def test_a_table_says_what_time_is_left_with_fewer_misses():
    base = {"fast_fraction": 0.05, "calls": 10, "lookups": 1000, "on_demand_fetches": 500}
    lru = {**base, "policy": "lru", "time_us": {"embedding": 550.0, "MLPs": 400.0}}
    dram = {**base, "policy": "all in DRAM, store", "time_us": {"embedding": 50.0, "MLPs": 400.0}}
    about = {"lookups": 1000, "compulsory": 0.2, "opt": {"0.05": 0.3}}
    words = tables._bounds([dram, lru], about)
    assert "50 rows from the file, 10.0 each" in words
    assert "the 20 compulsory ones it would take 0.68" in words
    assert "(0.3000 of lookups): 0.79" in words


@pytest.fixture(scope="module")
def paper(requests, tmp_path_factory):
    """The directory of a `recmg-paper` of the requests' trace."""
    if model.refusal() is not None:
        pytest.skip(model.refusal())
    from tieralloc.policies.registry import trainer

    directory = tmp_path_factory.mktemp("policies") / "recmg-paper"
    trainer("recmg-paper")(requests.trace, directory, [0.2], epochs=1)
    return directory


def test_paper_caching_policy_keeps_alike_and_prefetches_nothing(requests, paper):
    from tieralloc.policies.recmg_paper.models import CHUNK
    from tieralloc.policies.recmg_paper.policy import PaperPolicy

    from bench.dlrm.server import PaperCachingPolicy

    accesses = requests.trace.accesses()[: 40 * CHUNK]
    decisions = []
    for kind in (PaperPolicy, PaperCachingPolicy):
        policy = kind.load(paper)
        decisions.append(policy.decide(policy.models(500), accesses))
    (keep, prefetches), (same, none) = decisions
    assert np.array_equal(keep, same)
    assert (prefetches.size > 0, none.size) == (True, 0)


@pytest.mark.parametrize("own", [False, True])
def test_server_paper_policy_runs_in_a_pinned_thread(requests, paper, folder, own):
    from bench.dlrm.server import Server, _policy_threads

    (contender,) = [
        c for c in CONTENDERS if c.trained == "recmg-paper" and c.own == own and not c.auto_pause
    ]
    before = _policy_threads()
    server = Server(requests, contender, folder / "slow.tier", 500, paper)
    try:
        server.pin_policy(sorted(os.sched_getaffinity(0))[:1])
        (thread,) = set(_policy_threads()) - set(before)
        assert len(os.sched_getaffinity(thread)) == 1
        server.warm()
        deadline = time.monotonic() + 20
        while (stats := server.about()["policy_stats"])["observed_share"] < 1:
            assert (stats["state"], stats["accesses_dropped"]) == ("running", 0)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server._cpu()["policy"] > 0
        if not own:
            assert server.store.stats().prefetches_issued == 0
    finally:
        server.close()

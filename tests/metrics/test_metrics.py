"""Prometheus metrics of stores: names, values, and stores that come and go."""

import contextlib
import gc
import subprocess
import threading

import numpy as np
import pytest
from support import run_python

pytest.importorskip("prometheus_client")

import prometheus_client as prometheus
from prometheus_client.parser import text_string_to_metric_families

import tieralloc as ta
from tieralloc import metrics
from tieralloc.stats import LATENCY_BOUNDS_NS
from tieralloc.tools.emulated import EmulatedMemory


@pytest.fixture
def registry():
    return prometheus.CollectorRegistry()


def scrape(registry):
    return prometheus.generate_latest(registry).decode()


def samples_of(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def serve(store, tables=("item", "user")):
    for name in tables:
        table = store.create_table(name, 1000, 16)
        table.update([1, 2], np.ones((2, 16), np.float32))
        for first in range(20):
            table.lookup([first, first + 1])
            table.lookup([first + 1])
    return store


def test_metrics_have_values_of_stats(make_store, registry):
    store = serve(make_store(fast_rows=50))
    metrics.register(store, "s", registry)
    value = registry.get_sample_value
    stats = store.stats()
    for name, expected in {
        "calls_total": stats.calls,
        "lookups_total": stats.lookups,
        "hits_total": stats.hits,
        "on_demand_fetches_total": stats.on_demand_fetches,
        "miss_ratio": stats.miss_ratio,
        "fast_rows": stats.fast_rows,
        "evictions_total": stats.evictions,
        "lookup_waited_seconds_total": stats.lookup.waited_ns * 1e-9,
        "fast_tier_resident_rows": stats.fast_tier.resident_rows,
        "fast_tier_bypassed_total": stats.fast_tier.bypassed,
        "updates_updated_rows_total": 4,
        "updates_write_back_error": 0,
        "slow_tier_bytes": stats.slow_tier.bytes,
        "slow_tier_is_emulated": 0,
        "dram_vector_bytes": stats.dram.vector_bytes,
        "latency_call_hit_seconds_count": stats.latency.call_hit.count,
        "latency_call_hit_max_seconds": stats.latency.call_hit.max_ns * 1e-9,
        "latency_row_on_demand_seconds_sum": stats.latency.row_on_demand.sum_ns * 1e-9,
    }.items():
        assert value(f"tieralloc_{name}", {"store": "s"}) == pytest.approx(expected), name
    for table in ("item", "user"):
        labels = {"store": "s", "table": table}
        assert value("tieralloc_table_lookups_total", labels) == 60
        assert value("tieralloc_table_updated_rows_total", labels) == 2
        assert value("tieralloc_table_rows", labels) == 1000
    (info,) = [name for name in samples_of(scrape(registry)) if name[0] == "tieralloc_store_info"]
    labels = dict(info[1:])
    assert (labels["policy"], labels["slow_tier_kind"]) == ("s3fifo", "file")
    assert labels["slow_tier_path"] == stats.slow_tier.path


def test_metrics_of_memory_have_its_groups(registry):
    with ta.TieredStore(slow=EmulatedMemory(20), fast_rows=50) as store:
        metrics.register(serve(store), "s", registry)
        value = registry.get_sample_value
        assert value("tieralloc_slow_tier_extra_seconds", {"store": "s"}) == pytest.approx(20e-9)
        line_seconds = value("tieralloc_promotion_slow_line_seconds", {"store": "s"})
        assert line_seconds == pytest.approx(store.stats().promotion.slow_line_ns * 1e-9)
        assert value("tieralloc_slow_tier_is_emulated", {"store": "s"}) == 1
        assert "tieralloc_policy_" not in scrape(registry)  # no learned policy


def test_histogram_buckets_are_cumulative(make_store, registry):
    store = serve(make_store(fast_rows=50))
    metrics.register(store, "s", registry)
    samples = samples_of(scrape(registry))
    for kind in ("call_hit", "call_on_demand", "row_hit", "row_on_demand"):
        name = f"tieralloc_latency_{kind}_seconds"
        buckets = {
            float(dict(key[1:])["le"]): value
            for key, value in samples.items()
            if key[0] == f"{name}_bucket"
        }
        bounds = [bound * 1e-9 for bound in LATENCY_BOUNDS_NS]
        assert sorted(buckets) == pytest.approx([*bounds, float("inf")])
        counts = [buckets[bound] for bound in sorted(buckets)]
        assert counts == sorted(counts)
        assert counts[-1] == samples[f"{name}_count", ("store", "s")] > 0
        mean = samples[f"{name}_sum", ("store", "s")] / counts[-1]
        assert 0 < mean <= samples[f"tieralloc_latency_{kind}_max_seconds", ("store", "s")] * 1.0001


def test_each_metric_is_listed_once_for_all_stores(make_store, registry):
    first, second = serve(make_store()), serve(make_store(), tables=("item",))
    metrics.register(first, "first", registry)
    metrics.register(second, registry=registry)
    text = scrape(registry)
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 60
    path = second.stats().slow_tier.path
    for name, calls in (("first", 80), (path, 40)):
        assert registry.get_sample_value("tieralloc_calls_total", {"store": name}) == calls


def test_registering_twice_and_taken_names_raise(make_store, registry):
    first, second = make_store(), make_store()
    metrics.register(first, "a", registry)
    with pytest.raises(ValueError, match="store: registered already, with the name 'a'"):
        metrics.register(first, "b", registry)
    with pytest.raises(ValueError, match="name: another open store has 'a'"):
        metrics.register(second, "a", registry)
    with pytest.raises(KeyError, match="expected one of the registry's stores"):
        metrics.unregister(second, registry)
    first.close()
    metrics.register(second, "a", registry)  # the name is free again
    with pytest.raises(ValueError, match="closed"):
        metrics.register(first, "b", registry)


def test_closed_and_unregistered_stores_give_nothing(make_store, registry):
    stores = [make_store() for _ in range(3)]
    for number, store in enumerate(stores):
        metrics.register(store, str(number), registry)
    assert scrape(registry).count("tieralloc_calls_total{") == 3
    stores[0].close()
    metrics.unregister(stores[1], registry)
    assert samples_of(scrape(registry)).keys() >= {("tieralloc_calls_total", ("store", "2"))}
    assert scrape(registry).count("tieralloc_calls_total{") == 1
    stores[2].close()
    assert scrape(registry) == ""
    for store in (stores[0], stores[2]):
        metrics.unregister(store, registry)
    metrics.register(make_store(), "again", registry)
    assert scrape(registry).count("tieralloc_calls_total{") == 1


def test_registry_does_not_keep_a_store_open(folder, registry):
    store = ta.TieredStore(folder / "a.tier", fast_rows=8)
    metrics.register(store, "a", registry)
    del store
    gc.collect()
    assert scrape(registry) == ""
    with ta.TieredStore(folder / "a.tier", mode="r+", fast_rows=8) as store:  # not locked
        metrics.register(store, "a", registry)


def test_counters_never_decrease_while_threads_serve(make_store, registry):
    store = serve(make_store(fast_rows=100))
    metrics.register(store, "s", registry)
    is_over = threading.Event()

    def look_up(seed):
        random = np.random.default_rng(seed)
        with contextlib.suppress(ValueError):  # the store is closed
            while not is_over.is_set():
                store.embedding_bag(random.integers(0, 1000, 40), np.arange(0, 44, 4))

    threads = [threading.Thread(target=look_up, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    before = {}
    for _ in range(50):
        samples = samples_of(scrape(registry))
        for key, value in samples.items():
            if key[0].endswith(("_total", "_bucket", "_count", "_sum")):
                assert value >= before.get(key, 0), key
        before = samples
    store.close()
    assert scrape(registry) == ""
    is_over.set()
    for thread in threads:
        thread.join()


def test_scrape_in_forked_child_gives_nothing(folder):
    run = run_python(
        """
        import os, sys
        import prometheus_client, tieralloc as ta
        store = ta.TieredStore(sys.argv[1], fast_rows=8)
        ta.metrics.register(store, "s")
        if os.fork() == 0:
            text = prometheus_client.generate_latest().decode()
            os._exit("tieralloc_" in text)
        status = os.wait()[1]
        assert "tieralloc_calls_total" in prometheus_client.generate_latest().decode()
        sys.exit(os.waitstatus_to_exitcode(status))
        """,
        folder / "a.tier",
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_import_loads_no_prometheus_client():
    run = run_python(
        """
        import sys
        import tieralloc as ta
        assert "tieralloc.metrics" not in sys.modules
        ta.metrics.register
        assert "prometheus_client" not in sys.modules
        sys.modules["prometheus_client"] = None
        try:
            ta.metrics.register(None)
        except ImportError as error:
            print(error)
        """
    )
    assert "pip install 'tieralloc[metrics]'" in run.stdout, run.stderr


def check_metrics(promtool, text):
    return subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_promtool_accepts_the_metrics(make_store, registry, promtool):
    metrics.register(serve(make_store(fast_rows=50)), "file", registry)
    with ta.TieredStore(slow=EmulatedMemory(20), fast_rows=50) as memory:
        metrics.register(serve(memory), "memory", registry)
        text = scrape(registry)
    run = check_metrics(promtool, text)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    run = check_metrics(promtool, text.replace("calls_total", "calls_count"))
    assert run.returncode != 0
    assert "_total" in run.stderr

"""Latency records and their matrices; the latencies themselves are not asserted."""

import json
import os

import pytest

from tieralloc import _bindings
from tieralloc.tools import latency
from tieralloc.tools import latency_report as _latency_report
from tieralloc.tools.cli.main import main

SMALL = 1 << 20


@pytest.fixture(scope="module")
def records():
    return latency.measure(bytes_of_node=lambda _: SMALL, repeats=3)


def test_measure_returns_a_record_per_pair(records):
    targets = [node for node in _bindings.numa_nodes() if node["bytes"] and node["allowed"]]
    origins = [node for node in _bindings.numa_nodes() if node["cpus"]]
    assert [(r["from_node"], r["node"]) for r in records] == [
        (origin["id"], node["id"]) for origin in origins for node in targets
    ]
    for record in records:
        assert set(record["from_cpus"]) <= os.sched_getaffinity(0)
        assert record["memory_bytes"] == SMALL
        assert record["emulated"] is False
        metrics = [record["load_ns"], record["bytes_per_second"], record["lookup_ns"]]
        for metric in [*metrics, *record["gather_ns"].values()]:
            assert 0 < metric["q1"] <= metric["median"] <= metric["q3"]
            assert metric["samples"] == 3
        assert list(record["gather_ns"]) == ["64", "128", "256", "512", "1024"]
    json.dumps(records)


def test_measure_restores_the_affinity(records):
    before = os.sched_getaffinity(0)
    latency.measure(bytes_of_node=lambda _: SMALL, repeats=1)
    assert os.sched_getaffinity(0) == before


def test_pairs_and_measure_check_nodes_and_cpus():
    cpu = min(os.sched_getaffinity(0))
    node = next(n["id"] for n in _bindings.numa_nodes() if n["bytes"] and n["allowed"])
    (pair,) = latency.pairs([node], [cpu])
    assert pair == (None, [cpu], node)
    with pytest.raises(ValueError, match="node 4000: does not exist"):
        latency.pairs([4000])
    with pytest.raises(ValueError, match=r"cpus: .* got 4000"):
        latency.measure([node], [4000], bytes_of_node=lambda _: SMALL, repeats=1)
    with pytest.raises(ValueError, match="repeats: expected at least 1, got 0"):
        latency.measure(repeats=0)


def test_memory_bytes_is_within_available_memory():
    node = next(n for n in _bindings.numa_nodes() if n["bytes"] and n["allowed"])
    size = latency.memory_bytes(node["id"])
    assert SMALL <= size <= max(node["available"] // 4, SMALL)


def test_check_emulation_reports_the_deviation():
    (record,) = latency.check_emulation([1000], SMALL, 3)
    assert record["emulated"] is True
    assert record["measured_ns"] > 0
    assert record["within"] == (abs(record["deviation"]) <= 0.1)
    table = _latency_report.emulation_table([record])
    assert table.startswith("emulated")
    assert "+1000 ns" in table


def synthetic_record(origin, node, value):
    metric = {"median": value, "q1": value - 1, "q3": value + 1, "samples": 5}
    return {
        "from_node": origin,
        "from_cpus": [2 * origin, 2 * origin + 1],
        "node": node,
        "memory_bytes": SMALL,
        "huge_page_bytes": 0,
        "pages_elsewhere": 7 if node else 0,
        "load_ns": metric,
        "bytes_per_second": {key: 1e9 * number for key, number in metric.items()},
        "gather_ns": {"64": metric, "256": metric},
        "lookup_ns": metric,
        "cpu_mhz": {"min": 2000.0, "max": 2500.0, "governor": "performance"},
        "machine": "a machine",
        "emulated": False,
    }


def test_matrices_place_each_pair():
    two = [synthetic_record(o, n, 100 + 10 * o + n) for o in (0, 1) for n in (0, 2)]
    text = _latency_report.matrices(two)
    assert "2,000 to 2,500 MHz (governor performance)" in text
    assert "warning: 7 pages of node 2 are on other nodes" in text
    assert "no remote memory" not in text
    block = text[text.index("dependent load, ns") :].splitlines()
    assert block[0].split()[-4:] == ["node", "0", "node", "2"]
    assert block[2].startswith("node 0 (cpus 0-1)")
    assert block[2].split("  ")[-2:] == ["100.0 [99.0 101.0]", "102.0 [101.0 103.0]"]
    assert block[3].endswith("112.0 [111.0 113.0]")


def test_matrices_one_node_says_no_remote_memory():
    assert "no remote memory to compare" in _latency_report.matrices([synthetic_record(0, 0, 90)])


def test_latency_command_writes_json_and_heat_maps(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, image = tmp_path / "latency.json", tmp_path / "latency.png"
    arguments = ["--bytes", "1MiB", "--repeats", "2", "--emulated", "500ns"]
    assert main(["latency", *arguments, "--json", str(path), "--plot", str(image)]) == 0
    assert image.read_bytes()[:4] == b"\x89PNG"
    *records, check = json.loads(path.read_text())
    assert check["extra_ns"] == 500
    printed = capsys.readouterr().out
    assert f"{records[0]['load_ns']['median']:,.1f} [" in printed
    assert "+500 ns" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--node", "4000"], "node 4000: does not exist"),
        (["--from-cpus", "x"], "cpus: expected processors such as '0-3,8', got 'x'"),
        (["--bytes", "much"], "bytes: expected bytes, or a size"),
    ],
)
def test_latency_command_bad_input_exits_2(arguments, message, capsys):
    assert main(["latency", *arguments]) == 2
    assert message in capsys.readouterr().err

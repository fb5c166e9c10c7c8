"""Commands that report nodes. Latencies of a guest are meaningless and are not checked."""

import json

import pytest

from tieralloc.tools import doctor
from tieralloc.tools.cli.main import main
from tieralloc.trace import generate, write


def test_doctor_lists_each_node(nodes):
    found = {finding.topic: finding.found for finding in doctor._node_details()}
    there = doctor._nodes().found
    for node in nodes:
        assert f"{node['id']}: " in found["free memory"]
        assert f"{node['id']}: " in found["node distances"]
        assert f"{node['id']}: " in there
    assert there.count("memory only") == sum(not node["cpus"] for node in nodes)


def test_doctor_shows_attributes_of_firmware(guest, nodes, far):
    found = {finding.topic: finding.found for finding in doctor._node_details()}
    distance = found["node distances"].split("; ")[0].split(": ")[1].split()
    assert distance[0] == "10"
    assert all(int(other) > 10 for other in distance[1:])
    assert f"{nodes[0]['id']}: read " in found["access attributes"]
    if not far["cpus"]:
        assert found["memory tiers"].count("tier ") == 2


def test_latency_measures_every_pair(nodes, capsys):
    assert main(["latency", "--bytes", "1MiB", "--repeats", "2", "--json", "-"]) == 0
    records = json.loads(capsys.readouterr().out)
    origins = [node["id"] for node in nodes if node["cpus"]]
    assert [(record["from_node"], record["node"]) for record in records] == [
        (origin, node["id"]) for origin in origins for node in nodes
    ]
    for record in records:
        assert record["pages_elsewhere"] == 0
        assert record["load_ns"]["samples"] == 2
        assert record["lookup_ns"]["median"] > 0


def test_replay_compares_node_with_no_fast_tier(far, tmp_path, capsys):
    path = tmp_path / "small.npz"
    write(generate(num_samples=150, num_tables=2), path)
    slow = f"numa:{far['id']}"
    status = main(
        [
            *("replay", str(path), "--slow", slow, "--policy", "lru", "--promotion", "always"),
            *("--embedding-dim", "8", "--batch-size", "4", "--fast-fraction", "50%"),
            *("--verify", "--json", "-"),
        ]
    )
    assert status == 0
    baseline, record = json.loads(capsys.readouterr().out)
    assert (baseline["policy"], baseline["fast_rows"], baseline["hits"]) == ("none", 0, 0)
    assert record["policy"] == "lru"
    assert record["hits"] > 0
    for each in (baseline, record):
        assert each["slow_tier"].startswith(f"numa: node {far['id']}, ")
        assert each["placement"]["pages_elsewhere"] == 0
        assert each["emulated"] is False


def test_missing_node_is_bad_input(nodes, tmp_path, capsys):
    path = tmp_path / "small.npz"
    write(generate(num_samples=100, num_tables=1), path)
    assert main(["replay", str(path), "--slow", "numa:55"]) == 2
    assert "node 55: does not exist; expected one with memory" in capsys.readouterr().err
    with pytest.raises(ValueError, match="node 55: does not exist"):
        doctor._bindings.usable_node(55)

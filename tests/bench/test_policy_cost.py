"""The CPU cost of policies beside 3L-Cache: that every contender is measured, and the table."""

import json

import pytest

from bench.policies import cost, foreign
from tieralloc import trace as traces


@pytest.mark.skipif(foreign.refusal() is not None, reason=str(foreign.refusal()))
def test_cost_simple_policies_fill_the_table(tmp_path, capsys):
    path, out = tmp_path / "generated.npz", tmp_path / "cost.md"
    traces.write(traces.generate(num_samples=600, name="generated"), path)
    options = ["--policies", "lru,s3fifo", "--repeat", "2", "--out", str(out), "--json"]
    assert cost.main(["--traces", str(path), *options]) == 0
    text = out.read_text()
    assert text in capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    labels = [cost.BASELINE, cost.FLOOR, "lru", "s3fifo"]
    assert lines[0] == ["trace", "capacity", *labels]
    assert [line[1] for line in lines[2:-2]] == ["1%", "5%", "10%", "20%"]
    assert [line[0] for line in lines[-2:]] == ["mean ratio", "max ratio"]
    records = json.loads(out.with_suffix(".json").read_text())
    assert [record["policy"] for record in records] == labels * 4
    assert all(len(record["cpu_seconds"]) == 2 for record in records)
    assert all(0 < record["miss_ratio"] < 1 for record in records)

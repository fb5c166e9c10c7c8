"""Plans: records, refinement and recommendation; the command's text, JSON, plot and errors."""

import json

import psutil
import pytest
from replay_cases import run

from tieralloc import TieredStore
from tieralloc.policy.registry import with_learned
from tieralloc.tools.capacity import bytes_for, rows_within
from tieralloc.tools.plan.plan import plan
from tieralloc.tools.plan.report import to_text
from tieralloc.tools.simulate import simulate
from tieralloc.trace import read
from tieralloc.trace.stream import count_distinct

OPTIONS = {"embedding_dim": 16, "batch_size": 16, "seconds": 0.05}
COMMAND = ("--embedding-dim", 16, "--batch-size", 16, "--seconds", 0.05)


@pytest.fixture(scope="module")
def distinct(trace):
    return count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))


def test_plan_recommends_the_budget_that_brute_force_finds(trace, distinct, tmp_path):
    made = plan(trace, ["lru"], ["miss-ratio=.45"], directory=tmp_path, **OPTIONS)
    for rows in range(1, distinct + 1):
        (counted,) = simulate(trace, ["lru"], [rows / distinct], batch_size=16, embedding_dim=16)
        if counted["miss_ratio"] <= 0.45:
            break
    best = made.choice.record
    assert best["miss_ratio"] <= 0.45
    assert best["fast_rows"] >= rows
    total = int(trace.num_embeddings.sum())
    assert best["fast_bytes"] <= bytes_for(int(1.04 * rows) + 1, total, 16)
    assert best in made.records
    assert not list(tmp_path.iterdir())


def test_plan_records_are_ordered_and_complete(trace, distinct, tmp_path):
    made = plan(
        trace,
        ["lru", "s3fifo"],
        ["p50=1us"],
        fast_fractions=[0.5, 0.1],
        directory=tmp_path,
        **OPTIONS,
    )
    pairs = [(record["policy"], record["fast_rows"]) for record in made.records]
    few, many = distinct // 10, distinct // 2
    assert pairs == [("lru", few), ("lru", many), ("s3fifo", few), ("s3fifo", many)]
    for record in made.records:
        assert record["unmet"] == ["p50=1us"]
        assert record["dram_bytes"] == record["fast_bytes"]
        assert record["fast_fraction"] == record["fast_rows"] / distinct
        assert 0 < record["latency_us"]["p50"] <= record["latency_us"]["p99"]
        assert not record["saturated"]
    assert made.choice.record is None
    assert made.choice.reasons[0].startswith("p50=1us: ")
    json.dumps(made.to_dict())


def test_plan_within_dram_has_the_rows_of_a_store(trace, tmp_path):
    limit = bytes_for(100, int(trace.num_embeddings.sum()), 16)
    made = plan(trace, ["lru", "s3fifo"], [f"dram={limit}"], directory=tmp_path, **OPTIONS)
    best = made.choice.record
    within = [record for record in made.records if record["dram_bytes"] <= limit]
    assert best["miss_ratio"] == min(record["miss_ratio"] for record in within)
    rows = rows_within(limit, trace.num_embeddings.tolist(), 16, [best["policy"]])
    assert best["fast_rows"] == pytest.approx(rows, rel=0.02, abs=1)


def test_plan_at_a_rate_beyond_the_caller_says_so(trace, tmp_path):
    made = plan(
        trace, ["lru"], ["p99=1s"], rate=1e9, fast_fractions=[0.1], directory=tmp_path, **OPTIONS
    )
    (record,) = made.records
    assert record["saturated"]
    assert record["latency_us"] == {"p50": None, "p99": None}
    assert made.choice.reasons[0].startswith("p99=1s: the rate is the bound")
    assert "saturated" in to_text(made, trace)


def test_plan_of_a_learned_policy_includes_its_state(path, tmp_path):
    pytest.importorskip("torch")
    given = ("--epochs", 1, "--no-serve", "--fast-fraction", "10%")
    assert run("train", path, "--out", tmp_path / "trained", *given) == 0
    policies, trace = with_learned([f"recmg:{tmp_path / 'trained'}"]), read(path)
    made = plan(trace, policies, fast_fractions=[0.1], directory=tmp_path, **OPTIONS)
    (counted,) = simulate(trace, policies, [0.1], batch_size=16, embedding_dim=16)
    (record,) = made.records
    assert (record["policy"], record["sample_rate"]) == ("recmg", 1)
    assert record["dram_bytes"] > record["fast_bytes"]
    assert record["miss_ratio"] == pytest.approx(counted["miss_ratio"], abs=0.01)
    assert record["prefetch_reads_per_request"] == pytest.approx(
        counted["prefetch_device_reads"] / counted["calls"], rel=0.1, abs=0.1
    )


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("policy", ["lru", "s3fifo"])
def test_bytes_for_is_the_reverse_of_rows_within(policy, dtype):
    tables = [7000, 900]
    for rows in (1, 17, 3000, 7900):
        size = bytes_for(rows, sum(tables), 64, policy, dtype)
        assert rows_within(size, tables, 64, [policy], dtype) >= rows
        if rows >= 3000:
            assert rows_within(size - 4 * 4096, tables, 64, [policy], dtype) < rows
    assert bytes_for(10**6, sum(tables), 64, policy, dtype) == size


def test_bytes_for_more_than_the_machine_has_is_proportional():
    rows = 1 << 28
    known = bytes_for(1 << 16, rows, 2048) / (1 << 16)
    assert psutil.virtual_memory().total < rows * 2048 * 4
    assert bytes_for(rows, rows, 2048) == pytest.approx(known * rows, rel=0.05)


def test_command_prints_table_and_recommendation(path, disk, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "60")
    out, plot = tmp_path / "plan.json", tmp_path / "plan.png"
    given = ("--policy", "lru,sieve", "--target", "miss-ratio=.6,p99=10s", "--rate", 5)
    status = run("plan", path, *COMMAND, *given, "--json", out, "--plot", plot)
    printed = capsys.readouterr()
    assert status == 0
    made = json.loads(out.read_text())
    best = made["recommended"]
    assert printed.out.startswith(best["policy"])
    assert "cheapest plan for miss-ratio=.6 and p99=10s" in " ".join(printed.out.split())
    assert max(map(len, printed.out.splitlines())) <= 60
    assert best == min(
        (record for record in made["records"] if not record["unmet"]),
        key=lambda record: (record["dram_bytes"], record["miss_ratio"]),
    )
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert not list(disk.iterdir())


def test_command_json_dash_prints_only_json(path, disk, capsys):
    assert run("plan", path, *COMMAND, "--fast-fraction", "10%", "--json", "-") == 0
    made = json.loads(capsys.readouterr().out)
    assert [record["policy"] for record in made["records"]] == ["lru", "s3fifo"]
    assert made["recommended"] is None
    assert made["reasons"] == []


def test_command_measures_a_file(path, tmp_path, capsys):
    trace, file = read(path), tmp_path / "emb.tier"
    with TieredStore(file, mode="w", fast_rows=1) as store:
        for name, rows in zip(trace.table_names, trace.num_embeddings.tolist(), strict=True):
            store.create_table(name, rows, 16)
    fraction = ("--policy", "lru", "--fast-fraction", "10%")
    assert run("plan", path, *COMMAND, *fraction, "--file", file) == 0
    assert "device       file on " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--target", "p98=1ms"], 2, "expected p99=2ms"),
        (["--target", "p99=1"], 2, "expected a time such as 2ms or 500us, got '1'"),
        (["--policy", "opt"], 2, "got 'opt'"),
        (["--policy", "recmg-caching"], 2, "recmg-caching has no directory"),
        (["--rate", "0"], 2, "rate: expected finite and above 0, got 0"),
        (["--error", "0"], 2, "max_error: expected finite and above 0, got 0"),
        (["--seconds", "-1"], 2, "seconds: expected finite and above 0, got -1"),
        (["--batch-size", "0"], 2, "expected at least 1, got 0"),
        (["--file", "x", "--dir", "y"], 2, "--dir: no effect with --file"),
        (["--file", "/nowhere/x"], 1, "/nowhere/x: cannot open the slow tier: No such file"),
        (["--dir", "/nowhere"], 1, "/nowhere: No such file"),
        (["--plot", "f.xls"], 2, "f.xls: unknown image format"),
        (["--fast-fraction", "1e-9"], 2, "expected at least one of"),
    ],
)
def test_command_invalid_option_is_one_line(path, disk, capsys, options, status, message):
    pytest.importorskip("matplotlib")
    assert run("plan", path, *options) == status
    errors = capsys.readouterr().err.splitlines()
    assert message in errors[-1]
    assert errors[-1].startswith("tieralloc: error: ")

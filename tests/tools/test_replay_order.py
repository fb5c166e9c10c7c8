"""Replays of tables with an order: the vectors, and the DRAM of the map."""

import json

import pytest
from replay_cases import DIM, run

from tieralloc._bindings import rows_per_page
from tieralloc.tools.arrange import arrange
from tieralloc.tools.replay.replay import replay
from tieralloc.trace import read


@pytest.fixture(scope="session")
def order(trace):
    return arrange(trace, rows_per_page(DIM, "float32"), method="greedy")


def test_replay_of_an_order_serves_the_same_vectors(trace, order, tmp_path):
    options = {"embedding_dim": DIM, "batch_size": 16, "directory": tmp_path, "verify": True}
    plain, arranged = (
        replay(trace, ["lru"], [0.1], order=choice, **options)[0] for choice in (None, order)
    )
    assert arranged["verified"] > 0
    counts = ("lookups", "hits", "on_demand_fetches", "fast_rows")
    assert [arranged[name] for name in counts] == [plain[name] for name in counts]
    assert plain["dram"]["order_bytes"] == 0
    assert arranged["dram"]["order_bytes"] == sum(
        order.row_order(name).bytes for name, table in order.tables.items() if len(table.rows)
    )


def test_budget_of_the_command_contains_the_map(path, disk, tmp_path):
    out, record = tmp_path / "order.npz", tmp_path / "replay.json"
    assert run("arrange", path, "--out", out, "--embedding-dim", DIM) == 0
    fast_rows = []
    for words in ((), ("--order", out)):
        common = ("--fast-bytes", "64KiB", "--embedding-dim", DIM, "--policy", "lru")
        assert (
            run("replay", path, *common, *words, "--json", record, "--no-baselines", "--force") == 0
        )
        fast_rows.append(json.loads(record.read_text())[0]["fast_rows"])
    assert fast_rows[1] < fast_rows[0]
    assert len(read(path).table_names) == 3


def test_order_of_memory_or_of_another_dim_is_refused(path, disk, tmp_path, capsys):
    out = tmp_path / "order.npz"
    assert run("arrange", path, "--out", out, "--embedding-dim", DIM) == 0
    assert run("replay", path, "--order", out, "--slow", "emulated:150ns") == 2
    assert "--order: no effect with a slow tier in memory" in capsys.readouterr().err
    assert run("replay", path, "--order", out, "--embedding-dim", 2 * DIM, "--no-baselines") == 2
    assert "rows per page; expected" in capsys.readouterr().err

"""Files of N ranks written as those of M ranks."""

import numpy as np
import pytest

pytest.importorskip("torch")

from tieralloc import File, TieredStore
from tieralloc.distributed._record import Record, RecordFile
from tieralloc.distributed._shards import Shard, ShardedTable
from tieralloc.tools.cli.main import main
from tieralloc.tools.reshard import even_shards, reshard
from tieralloc.trace import generate, write

ROWS = {"item": 50, "tiny": 1, "user": 7}
DTYPES = {"item": "float32", "tiny": "int8", "user": "bfloat16"}


def values(name):
    rows = np.random.default_rng(len(name)).standard_normal((ROWS[name], 4))
    return rows.astype(np.float32)


def sharded_tables(shards):
    return [
        ShardedTable(name, rows, 4, DTYPES[name], "sum", (), tuple(shards[name]))
        for name, rows in ROWS.items()
    ]


def write_ranks(folder, num_ranks, version="7"):
    tables = sharded_tables(even_shards(ROWS, num_ranks))
    paths = [str(folder / f"old{rank}.tier") for rank in range(num_ranks)]
    for rank, path in enumerate(paths):
        slow = File(path, mode="w", warm_restart_interval=None)
        with TieredStore(slow=slow, fast_rows=16) as store:
            for table in tables:
                if (shard := table.shard_of(rank)) is not None:
                    new = store.create_table(table.name, shard.last - shard.first, 4, table.dtype)
                    new.load(values(table.name)[shard.first : shard.last])
            RecordFile(store).write(Record.of(tables, version, rank, num_ranks), is_loaded=True)
    return paths


def rows_of(paths, expected):
    """Return the raw rows of each table from the files of all ranks, which have these records."""
    found = {name: {} for name in ROWS}
    for rank, path in enumerate(paths):
        with TieredStore(path, mode="r", fast_rows=16) as store:
            record = Record.of(sharded_tables(expected), "7", rank, len(paths))
            assert RecordFile(store).check(record)
            for name, (first, last, _) in record.shards.items():
                assert len(store.table(name)) == last - first
                raw = store.table(name).lookup(np.arange(last - first), raw=True)
                found[name].update(zip(range(first, last), raw, strict=True))
    return {name: np.stack([rows[row] for row in sorted(rows)]) for name, rows in found.items()}


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 2), (2, 5)])
def test_resharded_rows_are_the_same_bytes(tmp_path, old, new):
    paths = write_ranks(tmp_path, old)
    before = rows_of(paths, even_shards(ROWS, old))
    outs = [str(tmp_path / f"new{rank}.tier") for rank in range(new)]
    records = reshard(paths[::-1], outs)
    assert [record.rank for record in records] == list(range(new))
    after = rows_of(outs, even_shards(ROWS, new))
    for name, rows in before.items():
        np.testing.assert_array_equal(after[name], rows)


def test_given_plan_is_followed(tmp_path):
    paths = write_ranks(tmp_path, 2)
    plan = {
        "item": [Shard(1, 0, 20), Shard(0, 20, 50)],
        "tiny": [Shard(0, 0, 1)],
        "user": [Shard(0, 0, 7), Shard(1, 0, 7)],  # replicated
    }
    outs = [str(tmp_path / f"new{rank}.tier") for rank in range(2)]
    reshard(paths, outs, plan)
    before, after = rows_of(paths, even_shards(ROWS, 2)), rows_of(outs, plan)
    again = [str(tmp_path / f"again{rank}.tier") for rank in range(3)]
    reshard(outs, again)
    for found in (after, rows_of(again, even_shards(ROWS, 3))):
        for name, rows in before.items():
            np.testing.assert_array_equal(found[name], rows)


def test_missing_rank_raises_value_error(tmp_path):
    paths = write_ranks(tmp_path, 3)
    with pytest.raises(ValueError, match=r"each of 3 ranks once, got ranks \[0, 2\]"):
        reshard([paths[0], paths[2]], [str(tmp_path / "new.tier")])


def test_file_without_record_raises_value_error(tmp_path):
    path = tmp_path / "plain.tier"
    with TieredStore(path, fast_rows=8) as store:
        store.create_table("item", 10, 4)
    with pytest.raises(ValueError, match="no record of loaded shards beside it"):
        reshard([str(path)], [str(tmp_path / "new.tier")])


def test_plan_without_a_table_raises_value_error(tmp_path):
    paths = write_ranks(tmp_path, 1)
    with pytest.raises(ValueError, match="'item': expected shards of rows 0 to 50"):
        reshard(paths, [str(tmp_path / "new.tier")], {"tiny": [Shard(0, 0, 1)]})


def test_command_prints_the_records(tmp_path, capsys):
    paths = write_ranks(tmp_path, 2)
    pattern = str(tmp_path / "new{rank}.tier")
    assert main(["reshard", *paths, "--ranks", "3", "--out", pattern]) == 0
    assert "rank 2 of 3: item 33 to 50" in capsys.readouterr().out
    assert main(["reshard", *paths, "--ranks", "3", "--out", pattern]) == 1
    assert main(["reshard", *paths, "--ranks", "3", "--out", "new.tier"]) == 2
    command = ["reshard", *paths, "--ranks", "3", "--out", pattern, "--force"]
    assert main([*command, "--trace", "T.npz"]) == 2


def test_command_plans_by_a_trace(tmp_path, capsys):
    trace = generate(num_samples=500, num_tables=2)
    write(trace, tmp_path / "trace.npz")
    rows = dict(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))
    shards = even_shards(rows, 2)
    tables = [
        ShardedTable(name, count, 8, "float32", "sum", (), tuple(shards[name]))
        for name, count in rows.items()
    ]
    paths = [str(tmp_path / f"old{rank}.tier") for rank in range(2)]
    for rank, path in enumerate(paths):
        with TieredStore(path, fast_rows=16) as store:
            for table in tables:
                shard = table.shard_of(rank)
                store.create_table(table.name, shard.last - shard.first, 8)
            RecordFile(store).write(Record.of(tables, "", rank, 2), is_loaded=True)
    command = ["reshard", *paths, "--ranks", "3", "--out", str(tmp_path / "new{rank}.tier")]
    command += ["--trace", str(tmp_path / "trace.npz"), "--fast-bytes", "32KiB"]
    assert main(command) == 0
    assert "reads of the slowest rank: 1.0" in capsys.readouterr().out

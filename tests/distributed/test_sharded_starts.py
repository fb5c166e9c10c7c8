"""Ranks that refuse to start, invalid batches, and shards loaded from a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def import_torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal(), allow_module_level=True)


import_torchrec()

from dataclasses import replace  # noqa: E402

from distributed_support import (  # noqa: E402
    Case,
    Ranks,
    TableSpec,
    as_arrays,
    configs_of,
    jagged,
    plan_of,
    rows_of,
    sharded,
)

TABLES = (
    TableSpec("item", 20, ("item",), ((0, 0, 12), (1, 12, 20))),
    TableSpec("user", 8, ("user",), ((1, 0, 8),), mode="mean"),
)
BATCH = {"item": [[0, 13, 19], []], "user": [[7, 7, 1], [2]]}
CASE = Case(TABLES, ((BATCH,), (BATCH,)))


@pytest.fixture(scope="module")
def ranks():
    with Ranks(2) as group:
        yield group


def start(rank, case, folder, name="", **options):
    """Start a rank on its file; return the text of the error, or the results."""
    import torch.distributed as dist

    options = {"group": dist.group.WORLD, "timeout": 20, **options}
    path = Path(folder) / (name or f"{rank}.tier")
    try:
        store, module = sharded(case, path, rank, **options)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    with store:
        return as_arrays(module(jagged(BATCH)))


def start_on_file_of(rank, case, folder, names, **options):
    return start(rank, case, folder, names[rank], **options)


def test_restarted_ranks_reopen_their_files(ranks, tmp_path):
    first = ranks.run(start, CASE, tmp_path)
    second = ranks.run(start, CASE, tmp_path)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_equal(one, other)
    record = json.loads((tmp_path / "0.tier.shards").read_text())["record"]
    assert record["shards"] == {"item": [0, 12, 20]}


def test_swapped_files_are_refused_by_rank(ranks, tmp_path):
    ranks.run(start, CASE, tmp_path)
    errors = ranks.run(start_on_file_of, CASE, tmp_path, ["1.tier", "0.tier"])
    for error in errors:
        assert error.startswith("RankError: rank 0: ValueError")
        assert "rank 1: ValueError" in error
        assert "item 0 to 12" in error
        assert "item 12 to 20" in error


def test_file_of_another_plan_is_refused(ranks, tmp_path):
    ranks.run(start, CASE, tmp_path)
    item = replace(TABLES[0], shards=((0, 0, 11), (1, 11, 20)))
    for error in ranks.run(start, Case((item, TABLES[1]), CASE.batches), tmp_path):
        assert "shards of another plan, version or rank" in error


def start_with_version(rank, case, folder, versions):
    return start(rank, case, folder, version=versions[rank])


def test_rank_of_another_version_is_named(ranks, tmp_path):
    for error in ranks.run(start_with_version, CASE, tmp_path, ["1", "2"]):
        assert error.startswith("RankError: rank 1: another version than rank 0")


def write_other_file(rank, folder):
    import tieralloc as ta

    if rank == 1:
        with ta.TieredStore(Path(folder) / "1.tier", fast_rows=8) as store:
            store.create_table("other", 10, 4)


def test_file_without_record_is_refused(ranks, tmp_path):
    ranks.run(write_other_file, tmp_path)
    for error in ranks.run(start, CASE, tmp_path):
        assert error.startswith("RankError: rank 1: ValueError")
        assert "no record of shards" in error


def serve_invalid(rank, case, folder, batches):
    """Serve batches, some of which are invalid on a rank; return results and errors."""
    import torch.distributed as dist

    options = {"group": dist.group.WORLD, "timeout": 20}
    store, module = sharded(case, Path(folder) / f"{rank}.tier", rank, **options)
    with store:
        outcomes = []
        stream = module.stream(jagged(batch) for batch in batches[rank])
        while True:
            try:
                outcomes.append(as_arrays(next(stream)))
            except StopIteration:
                return outcomes
            except (KeyError, IndexError) as error:
                outcomes.append(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("invalid", "error"),
    [
        ({"item": [[1]]}, "expected a feature 'user'"),
        ({"item": [[1, 20]], "user": [[1]]}, "not a row of table 'item'; expected 0 to 19, got 20"),
        ({"item": [[-1]], "user": [[1]]}, "not a row of table 'item'; expected 0 to 19, got -1"),
    ],
)
def test_invalid_batch_raises_on_its_rank_only(ranks, tmp_path, invalid, error):
    first, second = ranks.run(serve_invalid, CASE, tmp_path, [[BATCH, BATCH], [invalid, BATCH]])
    assert error in second[0]
    for result in (first[1], second[1]):
        np.testing.assert_equal(result, first[0])


def save(path, kind, tables):
    rows = {f"sparse.embedding_bags.{t.name}.weight": torch.from_numpy(rows_of(t)) for t in tables}
    if kind == "torch":
        torch.save(rows, path)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(rows, path)
    elif kind == "npy":
        path.mkdir()
        for name, values in rows.items():
            np.save(path / f"{name}.npy", values.numpy())
    else:
        from torch.distributed.checkpoint import FileSystemWriter, save

        save(rows, storage_writer=FileSystemWriter(path), no_dist=True)
    return path


@pytest.mark.parametrize("kind", ["torch", "safetensors", "npy", "dcp"])
def test_each_rank_loads_its_shards_of_a_checkpoint(ranks, tmp_path, kind):
    suffix = ".safetensors" if kind == "safetensors" else ""
    path = save(tmp_path / f"checkpoint{suffix}", kind, TABLES)
    expected = ranks.run(start, CASE, tmp_path)
    (tmp_path / "new").mkdir()
    case = replace(CASE, options={"checkpoint": path, "prefix": "sparse"})
    for _ in range(2):  # the second time the files are as they were
        results = ranks.run(start, case, tmp_path / "new")
        np.testing.assert_equal(results, expected)


def test_checkpoint_of_other_rows_is_refused(ranks, tmp_path):
    path = save(tmp_path / "checkpoint", "torch", [replace(TABLES[0], rows=21), TABLES[1]])
    case = replace(CASE, options={"checkpoint": path, "prefix": "sparse"})
    for error in ranks.run(start, case, tmp_path):
        assert "expected 20 rows, got shape (21, 4)" in error


@pytest.mark.parametrize(
    ("shards", "error"),
    [
        (((0, 0, 12), (1, 13, 20)), "each row once"),
        (((0, 0, 12),), "each row once"),
        (((0, 0, 12), (0, 12, 20)), "different ranks below 2"),
        (((0, 0, 12), (2, 12, 20)), "different ranks below 2"),
    ],
)
def test_invalid_plan_raises_value_error(shards, error):
    from tieralloc.distributed._shards import sharded_tables

    tables = [replace(TABLES[0], shards=shards)]
    with pytest.raises(ValueError, match=error):
        sharded_tables(configs_of(tables), plan_of(tables), 2)


def test_plan_of_other_tables_raises_value_error():
    from tieralloc.distributed._shards import sharded_tables

    configs, plan = configs_of(TABLES), plan_of(TABLES)
    with pytest.raises(ValueError, match=r"no table 'user'"):
        sharded_tables(configs, {"item": plan["item"]}, 2)
    with pytest.raises(ValueError, match=r"got \['user'\]"):
        sharded_tables(configs[:1], plan, 2)
    column = plan | {"item": replace(plan["item"], sharding_type="column_wise")}
    with pytest.raises(ValueError, match="expected table_wise or row_wise"):
        sharded_tables(configs, column, 2)


def test_replicated_tables_alone_raise_value_error():
    from tieralloc.distributed._shards import sharded_tables

    tables = [replace(TABLES[0], shards=((0, 0, 20), (1, 0, 20)))]
    with pytest.raises(ValueError, match="all tables are replicated"):
        sharded_tables(configs_of(tables), plan_of(tables), 2)


def test_plan_of_torchrec_is_accepted():
    from torchrec.distributed.sharding_plan import (
        construct_module_sharding_plan,
        data_parallel,
        row_wise,
        table_wise,
    )
    from torchrec.modules.embedding_modules import EmbeddingBagCollection

    from tieralloc.distributed._shards import sharded_tables

    configs = configs_of([*TABLES, TableSpec("city", 5, ("city",), ())])
    collection = EmbeddingBagCollection(tables=configs)
    plan = construct_module_sharding_plan(
        collection,
        per_param_sharding={
            "item": row_wise(),
            "user": table_wise(rank=2),
            "city": data_parallel(),
        },
        local_size=3,
        world_size=3,
        device_type="cpu",
    )
    item, user, city = sharded_tables(configs, plan, 3)
    assert city.is_replicated
    assert item.shards == ((0, 0, 7), (1, 7, 14), (2, 14, 20))
    assert user.shards == ((2, 0, 8),)

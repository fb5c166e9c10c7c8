"""Results of sharded modules equal those of torchrec's unsharded ones, on 1 to 4 ranks."""

import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tieralloc as ta

torch = pytest.importorskip("torch")


def import_torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal(), allow_module_level=True)


import_torchrec()

from distributed_support import (  # noqa: E402
    Case,
    Ranks,
    TableSpec,
    as_arrays,
    configs_of,
    jagged,
    rows_of,
    serve,
    sharded,
)
from torchrec.modules.embedding_modules import (  # noqa: E402
    EmbeddingBagCollection,
    EmbeddingCollection,
)

CASES = 25  # of each number of ranks


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def ranks(request):
    with Ranks(request.param) as group:
        yield group


def random_shards(choose, size, rows, *, whole):
    """Return a random plan of a table: one rank, or all rows or ranges of rows on some ranks."""
    if whole or size == 1:
        return ((choose.randrange(size), 0, rows),)
    if choose.random() < 0.3:
        return tuple((rank, 0, rows) for rank in range(size))  # replicated
    owners = choose.sample(range(size), choose.randint(2, size))
    ends = [*sorted(choose.sample(range(1, rows), len(owners) - 1)), rows]
    return tuple(zip(owners, [0, *ends], ends, strict=False))


def random_case(seed, size, *, pooled):
    choose = random.Random(seed)
    weighted = pooled and choose.random() < 0.3
    names = [f"f{i}" for i in range(choose.randint(1, 5))]
    tables = []
    for number, name in enumerate(names):
        rows = choose.randint(5, 30)
        features = (name, "shared") if choose.random() < 0.3 else (name,)
        tables.append(
            TableSpec(
                f"t{number}",
                rows,
                features,
                random_shards(choose, size, rows, whole=choose.random() < 0.5),
                mode="sum" if weighted else choose.choice(["sum", "mean"]),
                dim=choose.randint(1, 9) if pooled else 4,
            )
        )
    tables[0] = replace(tables[0], shards=random_shards(choose, size, tables[0].rows, whole=True))
    limits = {}
    for table in tables:
        for feature in table.features:
            limits[feature] = min(table.rows, limits.get(feature, table.rows))
    keys = [*limits, "unused"]
    batches = []
    for _ in range(size):
        own = []
        for _ in range(3):
            choose.shuffle(keys)
            samples = choose.randint(0, 4)
            batch = {
                key: [random_bag(choose, limits.get(key, 5)) for _ in range(samples)]
                for key in keys
            }
            own.append(batch)
        batches.append(tuple(own))
    return Case(tuple(tables), tuple(batches), weighted=weighted, pooled=pooled)


def random_bag(choose, rows):
    return [choose.randrange(rows) for _ in range(choose.choice([0, 0, 1, 2, 5]))]


def unsharded(case):
    """Return torchrec's own module with the rows of a case."""
    configs = configs_of(case.tables, case.pooled)
    if case.pooled:
        module = EmbeddingBagCollection(tables=configs, is_weighted=case.weighted)
        parts = module.embedding_bags
    else:
        module = EmbeddingCollection(tables=configs)
        parts = module.embeddings
    with torch.no_grad():
        for table in case.tables:
            parts[table.name].weight.copy_(torch.from_numpy(rows_of(table)))
    return module


def assert_same(case, results):
    module = unsharded(case)
    exact = {
        key
        for table in case.tables
        for feature in table.features
        for key in (feature, f"{feature}@{table.name}")
        if table.shards[0][2] == table.rows or not case.pooled  # not on several ranks
    }
    for rank, outcomes in enumerate(results):
        for outcome in outcomes:
            for batch, result in zip(case.batches[rank], outcome, strict=True):
                if not next(iter(batch.values())):
                    assert all(len(values) == 0 for values in result.values())
                    continue
                with torch.no_grad():
                    expected = as_arrays(module(jagged(batch, case.weighted)))
                assert list(result) == list(expected)
                for key, values in expected.items():
                    if key in exact:
                        np.testing.assert_array_equal(result[key], values)
                    else:
                        np.testing.assert_allclose(result[key], values, rtol=1e-5, atol=1e-5)


def test_pooled_results_of_random_plans_equal_unsharded(ranks):
    size = len(ranks.pipes)
    for seed in range(CASES):
        case = random_case(seed, size, pooled=True)
        assert_same(case, ranks.run(serve, case))


def test_unpooled_results_of_random_plans_equal_unsharded(ranks):
    size = len(ranks.pipes)
    for seed in range(CASES):
        case = random_case(seed, size, pooled=False)
        assert_same(case, ranks.run(serve, case))


def stream_from_disk(rank, case, folder):
    """Return the results of a stream, and the rows that it prefetched."""
    import torch.distributed as dist

    options = {"group": dist.group.WORLD, "timeout": 20}
    store, module = sharded(case, Path(folder) / f"{rank}.tier", rank, **options)
    with store:
        results = []
        for result in module.stream(map(jagged, case.batches[rank])):
            results.append(as_arrays(result))
            deadline = time.monotonic() + 10  # rows of the next batch are read in the background
            while store.stats().prefetches_issued == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
        return results, store.stats().prefetches_issued


def test_stream_prefetches_rows_and_keeps_the_order(ranks, tmp_path):
    size = len(ranks.pipes)
    shards = tuple((rank, 400 * rank, 400 * (rank + 1)) for rank in range(size))
    tables = (
        TableSpec("item", 400 * size, ("item",), shards, dim=16),
        TableSpec("user", 500, ("user",), ((size - 1, 0, 500),), dim=16),
    )
    choose = random.Random(0)
    batches = tuple(
        tuple(
            {
                table.name: [[choose.randrange(table.rows) for _ in range(9)] for _ in range(3)]
                for table in tables
            }
            for _ in range(6)
        )
        for _ in range(size)
    )
    case = Case(tables, batches)
    results, prefetched = zip(*ranks.run(stream_from_disk, case, tmp_path), strict=True)
    assert_same(case, [[each] for each in results])
    assert min(prefetched) > 0


def unsharded_tiered(case, store):
    """Return the unsharded module on a store with the rows of a case."""
    tables = [store.create_table(t.name, t.rows, t.dim, t.dtype) for t in case.tables]
    for table, spec in zip(tables, case.tables, strict=True):
        table.load(rows_of(spec))
    return ta.nn.TieredEmbeddingBagCollection(tables, case.weighted, mode=case.tables[0].mode)


@pytest.mark.parametrize("mode", ["sum", "mean", "weighted"])
@pytest.mark.parametrize(
    "dtypes",
    [("float16", "float16"), ("bfloat16", "bfloat16"), ("float16", "float32"), ("int8", "int8")],
    ids="-".join,
)
def test_other_dtypes_equal_the_unsharded_tiered_module(ranks, make_store, dtypes, mode):
    size = len(ranks.pipes)
    choose = random.Random(size)
    tables = [
        TableSpec(
            name,
            30,
            (name,),
            random_shards(choose, size, 30, whole=name != "split"),
            mode="sum" if mode == "weighted" else mode,
            dtype=dtype,
        )
        for name, dtype in zip(("a", "b", "split"), (*dtypes, dtypes[0]), strict=True)
    ]
    batches = tuple(
        ({t.name: [random_bag(choose, 30) for _ in range(5)] for t in tables},) for _ in range(size)
    )
    case = Case(tuple(tables), batches, weighted=mode == "weighted")
    module = unsharded_tiered(case, make_store(fast_rows=32))
    for rank, outcomes in enumerate(ranks.run(serve, case)):
        expected = as_arrays(module(jagged(batches[rank][0], case.weighted)))
        for (result,) in outcomes:
            for name in ("a", "b"):
                np.testing.assert_array_equal(result[name], expected[name])
            tolerance = 1e-5 if "float32" in dtypes or "int8" in dtypes else 3e-2
            np.testing.assert_allclose(
                result["split"], expected["split"], rtol=tolerance, atol=tolerance
            )

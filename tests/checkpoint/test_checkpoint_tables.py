"""Rows of safetensors, .npy and raw files, served where they are."""

import io
import os
import threading

import numpy as np
import pytest
from checkpoint_support import ENGINES, make_shards, shuffled, store_of
from support import ends_of, flat, pooled, run_python, widened

import tieralloc as ta


@pytest.fixture
def shards(folder):
    return make_shards(folder)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_row_of_every_tensor_is_read(folder, shards, engine, direct):
    with store_of(folder / "*.safetensors", engine=engine, direct=direct) as store:
        assert set(store.tables) == set(shards)
        for name, expected in shards.items():
            table = store.table(name)
            assert len(table) == len(expected)
            order = shuffled(len(expected))
            np.testing.assert_array_equal(table.lookup(order), expected[order])
        stats = store.stats().slow_tier
        assert stats.kind == "checkpoint"
        assert stats.path == str(folder / "*.safetensors")
        assert stats.engine.startswith(engine)
        assert stats.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_table_spans_shards_in_row_order(folder, shards):
    parts = ["ngram.0", "ngram.1", "ngram.2"]
    tables = {"ngram": parts, "other": "f32", "back": parts[::-1]}
    with store_of(folder / "*.safetensors", tables=tables) as store:
        assert list(store.tables) == list(tables)
        for name, order in (("ngram", parts), ("back", parts[::-1])):
            expected = np.concatenate([shards[part] for part in order])
            table = store.table(name)
            assert (table.num_embeddings, table.dtype, table.row_bytes) == (1437, "bytes", 131)
            rows = shuffled(1437, 1)
            np.testing.assert_array_equal(table.lookup(rows), expected[rows])


def test_files_are_unchanged(folder, shards):
    def state():
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    before = state()
    with store_of(folder / "*.safetensors") as store:
        store.table("f32").lookup(np.arange(700))
        store.flush()
    assert state() == before


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag_pools_rows_at_any_offset(folder, shards, mode):
    random = np.random.default_rng(3)
    with store_of(folder / "*.safetensors", fast_rows=100) as store:
        for name in ("f32", "f16", "bf16", "f64", "wide"):
            table, expected = store.table(name), shards[name]
            bags = [random.integers(0, len(expected), n) for n in random.integers(0, 9, 40)]
            rows = widened(expected, table.dtype)
            out = np.empty((len(bags), table.embedding_dim), rows.dtype)
            table.embedding_bag(flat(bags), ends_of(bags)[:-1], mode, out=out)
            np.testing.assert_allclose(out, pooled(rows, bags, mode), rtol=1e-5, atol=1e-5)


def test_torch_module_serves_tables_of_a_checkpoint(folder, shards):
    torch = pytest.importorskip("torch")
    tables = {"ngram": "f32", "other": "f64"}
    with store_of(folder / "*.safetensors", tables=tables) as store:
        module = ta.nn.TieredEmbedding(700, 33, store=store, name="ngram")
        rows = shuffled(700)
        found = module(torch.from_numpy(rows).reshape(10, 70))
        np.testing.assert_array_equal(found.numpy().reshape(700, 33), shards["f32"][rows])


def test_fast_bytes_makes_small_tables_resident(folder, shards):
    slow = ta.Checkpoint(folder / "*.safetensors")
    with ta.TieredStore(slow=slow, fast_bytes="64MiB") as store:
        assert all(table.resident for table in store.tables.values())
        for name, expected in shards.items():
            np.testing.assert_array_equal(
                store.table(name).lookup(np.arange(len(expected))), expected
            )
        store.resize(fast_bytes="1MiB")
        assert not store.table("ngram.0").resident
        for name, expected in shards.items():
            np.testing.assert_array_equal(
                store.table(name).lookup(np.arange(len(expected))), expected
            )


def test_prefetch_pin_and_warm_up_work(folder, shards):
    with store_of(folder / "*.safetensors", tables={"t": ["f32"]}, fast_rows=400) as store:
        table = store.table("t")
        table.pin([5, 6, 7])
        assert store.warm_up({"t": np.arange(50, 150)}) == 100
        store.reset_stats()
        np.testing.assert_array_equal(
            table.lookup([5, 6, 7, 50, 149]), shards["f32"][[5, 6, 7, 50, 149]]
        )
        assert store.stats().on_demand_fetches == 0


def test_threads_read_what_an_oracle_has(folder, shards):
    failures = []
    with store_of(folder / "*.safetensors", fast_rows=200) as store:

        def serve(seed):
            random = np.random.default_rng(seed)
            for _ in range(150):
                name = random.choice(list(shards))
                expected = shards[name]
                rows = random.zipf(1.3, random.integers(1, 300)) % len(expected)
                table = store.table(name)
                if random.random() < 0.2:
                    table.prefetch(rows[:20])
                if not np.array_equal(table.lookup(rows), expected[rows]):
                    failures.append((name, rows))

        threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.stats().hits > 0


def test_calls_that_write_are_refused(folder, shards):
    with store_of(folder / "*.safetensors", tables={"t": "f32"}) as store:
        table = store.table("t")
        values = np.zeros((1, 33), np.float32)
        calls = {
            "update": lambda: table.update([0], values),
            "load": lambda: table.load(values, start=0),
            "resize": lambda: table.resize(1000),
            "create_table": lambda: store.create_table("u", 10, 4),
            "drop_table": lambda: store.drop_table("t"),
            "apply": lambda: store.apply(ta.Delta(version=1, follows=0, parts=[])),
        }
        for name, call in calls.items():
            message = rf"checkpoint:.*\*.safetensors: {name} writes; .* got a Checkpoint"
            with pytest.raises(io.UnsupportedOperation, match=message):
                call()
        with pytest.raises(ValueError, match="switch: expected a store of a file"):
            store.switch("other.tier")
        np.testing.assert_array_equal(table.lookup([0]), shards["f32"][:1])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint32", "S3"])
def test_npy_files_are_tables(folder, dtype):
    values = np.random.default_rng(1).integers(0, 100, (300, 11)).astype(dtype)
    np.save(folder / "item.npy", values)
    np.save(folder / "user.npy", values[::-1])
    with store_of([folder / "user.npy", folder / "item.npy"]) as store:
        for name, expected in (("user", values[::-1]), ("item", values)):
            if not store.table(name).dtype.startswith("float"):
                expected = np.ascontiguousarray(expected).view(np.uint8).reshape(300, -1)
            found = store.table(name).lookup(np.arange(300))
            np.testing.assert_array_equal(found, expected)


def test_raw_rows_have_offset_and_stride(folder):
    rows = np.arange(50 * 6, dtype=np.float32).reshape(50, 6)
    padded = np.zeros((50, 31), np.uint8)
    padded[:, :24] = rows.view(np.uint8)
    (folder / "a.bin").write_bytes(b"x" * 13 + padded.tobytes()[:-7])
    (folder / "b.bin").write_bytes(b"y" * 13 + padded.tobytes())
    raw = {"num_embeddings": 50, "embedding_dim": 6, "offset": 13, "stride": 31}
    parts = [ta.RawRows(folder / name, **raw) for name in ("a.bin", "b.bin")]
    tables = {
        "both": parts,
        "bytes": ta.RawRows(folder / "a.bin", num_embeddings=13, row_bytes=1, dtype="bytes"),
    }
    with store_of(tables=tables) as store:
        found = store.table("both").lookup(np.arange(100))
        np.testing.assert_array_equal(found, np.concatenate([rows, rows]))
        assert store.table("bytes").lookup(np.arange(13)).tobytes() == b"x" * 13


def test_quantised_raw_rows_equal_those_of_a_file(folder, make_store):
    values = np.random.default_rng(5).random((64, 10), np.float32)
    for dtype in ("int8", "int4"):
        file = make_store().create_table("t", 64, 10, dtype)
        file.load(values)
        rows = file.lookup(np.arange(64), raw=True)
        (folder / f"{dtype}.bin").write_bytes(b"abc" + rows.tobytes())
        raw = ta.RawRows(
            folder / f"{dtype}.bin", num_embeddings=64, embedding_dim=10, dtype=dtype, offset=3
        )
        with store_of(tables={"t": raw}, fast_rows=16) as store:
            order = shuffled(64)
            np.testing.assert_array_equal(store.table("t").lookup(order), file.lookup(order))


def test_huge_sparse_file_opens_and_stays_in_budget(folder):
    """384 million rows of 320 bytes, whose blocks the file system does not store."""
    rows, dim = 384_000_000, 160
    path = folder / "ngram.safetensors"
    size = rows * dim * 2
    header = f'{{"ngram":{{"dtype":"BF16","shape":[{rows},{dim}],"data_offsets":[0,{size}]}}}}'
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        try:
            os.truncate(path, 8 + len(header) + size)
        except OSError as error:
            pytest.skip(f"no sparse file of {size} bytes here: {error}")
        marked = np.arange(dim, dtype=np.uint16)
        for row in (0, 123_456_789, rows - 1):
            file.seek(8 + len(header) + row * dim * 2)
            file.write(marked.tobytes())
    run = run_python(
        """
        import sys
        import numpy as np, psutil
        import tieralloc as ta
        before = psutil.Process().memory_info().rss
        slow = ta.Checkpoint(sys.argv[1])
        store = ta.TieredStore(slow=slow, fast_bytes="16MiB")
        table = store.table("ngram")
        random = np.random.default_rng(0)
        for _ in range(30):
            assert not table.lookup(random.integers(1, 100_000_000, 2000)).any()
        found = table.lookup([0, 123_456_789, len(table) - 1])
        assert (found == np.arange(160)).all()
        dram = store.stats().dram
        grown = psutil.Process().memory_info().rss - before
        assert dram.vector_bytes + dram.index_bytes + dram.metadata_bytes <= 16 << 20, dram
        assert grown <= dram.total_bytes + (48 << 20), (grown, dram)
        """,
        path,
    )
    assert run.returncode == 0, run.stderr


def test_arguments_are_checked(folder, shards):
    path = folder / "model-00001-of-00003.safetensors"
    (folder / "rows.bin").write_bytes(bytes(100))
    raw = ta.RawRows(folder / "rows.bin", num_embeddings=5, embedding_dim=5)
    for make, error, message in (
        (lambda: ta.Checkpoint(), ValueError, "files, tables: expected files, or RawRows"),
        (
            lambda: ta.Checkpoint(3),
            TypeError,
            "object is not iterable|files: expected paths, got 3",
        ),
        (lambda: ta.Checkpoint(path, engine="x"), ValueError, "engine: expected one of 'auto'"),
        (lambda: ta.Checkpoint(path, direct=1), TypeError, "direct: expected a bool, got 1"),
        (lambda: ta.Checkpoint(path, queue_depth=0), ValueError, "queue_depth: expected 1 to"),
        (lambda: ta.Checkpoint(path, tables=["f32"]), TypeError, "tables: expected rows by name"),
        (lambda: ta.Checkpoint(path, tables={"t": [3]}), TypeError, "'t': expected tensors or Raw"),
        (lambda: store_of(path, tables={"t": "no"}), ValueError, "'t': no tensor 'no'; expected"),
        (lambda: store_of(path, tables={"t": "bias"}), ValueError, "of two dimensions.* 'bias' of"),
        (
            lambda: store_of(path, tables={"t": ["f32", "bf16"]}),
            ValueError,
            "parts of one row form",
        ),
        (lambda: store_of(path, tables={"t": []}), ValueError, "parts of one row format, got None"),
        (lambda: store_of(path, tables={"": "f32"}), ValueError, "names of 1 to 191 bytes"),
        (lambda: store_of(path, tables={"t\0": "f32"}), ValueError, "names of 1 to 191 bytes"),
        (lambda: store_of(folder / "rows.bin"), ValueError, "ends with .safetensors or .npy; Raw"),
        (lambda: store_of(folder / "no*.npy"), FileNotFoundError, "no file matches the pattern"),
        (lambda: store_of(folder / "no.npy"), FileNotFoundError, "No such file"),
        (lambda: store_of(folder), IsADirectoryError, "Is a directory"),
        (lambda: store_of(tables={"t": raw}, fast_rows=0), ValueError, "fast_rows: expected 1 to"),
        (
            lambda: store_of(tables={"t": ta.RawRows(raw.path, num_embeddings=6, embedding_dim=5)}),
            ValueError,
            "expected rows within the 100 bytes of .*rows.bin, got 6 rows at a stride of 20 from",
        ),
        (
            lambda: store_of(tables={"t": ta.RawRows(raw.path, num_embeddings=1, row_bytes=4)}),
            ValueError,
            "embedding_dim, row_bytes: rows of float32 have the first",
        ),
        (
            lambda: ta.RawRows(raw.path, num_embeddings=0, embedding_dim=5),
            ValueError,
            "num_embeddings: expected 1 to",
        ),
    ):
        with pytest.raises(error, match=message):
            make()
    with store_of(tables={"t": raw}) as store:
        assert not store.table("t").lookup([0, 4]).any()


def test_same_tensor_in_two_files_is_refused(folder, shards):
    copy = folder / "other.safetensors"
    copy.write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"tensor '\w+' is in .*00001.* and in .*other"):
        store_of(folder / "*.safetensors")


def test_pipe_is_refused_at_once(folder):
    os.mkfifo(folder / "rows.npy")
    with pytest.raises(ValueError, match="expected a regular file"):
        store_of(folder / "rows.npy")


def test_store_of_a_checkpoint_has_no_pickle(folder, shards):
    import pickle

    with (
        store_of(folder / "*.safetensors") as store,
        pytest.raises(TypeError, match="cannot be pickled: expected a store in a file"),
    ):
        pickle.dumps(store)

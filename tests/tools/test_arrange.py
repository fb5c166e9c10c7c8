"""``tieralloc arrange``: orders learned, applied and exported; killed and interrupted."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from order_support import order_for
from replay_cases import run
from support import numbered_rows

import tieralloc as ta
from tieralloc.order import Order, pages_of_rows
from tieralloc.tools.arrange import apply, arrange, mtkahypar
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, write

needs_mtkahypar = pytest.mark.skipif(
    not mtkahypar.is_installed(), reason="needs the package mtkahypar"
)
METHODS = ["greedy", pytest.param("mtkahypar", marks=needs_mtkahypar)]


def reads_of(trace, order=None):
    """Return the device reads of requests of 32 samples with a small fast tier."""
    pages = pages_of_rows(trace, 15, order)
    (record,) = simulate(trace, ["lru"], [0.02], batch_size=32, pages=pages)
    return record["device_reads"]


def grouped_trace(samples=2000, groups=100, group_rows=15, seed=0):
    """Return a trace whose samples look up rows of one group, and the group of each row."""
    rng = np.random.default_rng(seed)
    rows = groups * group_rows
    group_of = rng.permutation(rows) % groups
    members = [np.flatnonzero(group_of == group) for group in range(groups)]
    bags = [rng.choice(members[rng.integers(groups)], 5, replace=False) for _ in range(samples)]
    single = rng.integers(30, size=samples)
    lengths = np.array([[5] * samples, [1] * samples])
    trace = Trace.from_lengths(
        np.concatenate([*bags, single]), lengths, ["item", "user"], [rows, 30]
    )
    return trace, group_of


@pytest.fixture(scope="module")
def trace_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "grouped.npz"
    write(grouped_trace()[0], path)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_a_group_share_a_page(method):
    trace, group_of = grouped_trace()
    table = arrange(trace, 15, method=method).tables["item"]
    pages = np.split(table.rows.astype(int), np.cumsum(table.page_lengths)[:-1])
    assert len(table.rows) > 1400
    assert sum(len(set(group_of[page])) for page in pages) < 250  # 100 if every page is one group


@pytest.mark.parametrize("method", METHODS)
def test_table_without_common_lookups_has_no_pages(method):
    table = arrange(grouped_trace()[0], 10, method=method).tables["user"]
    assert (table.num_embeddings, len(table.rows), len(table.page_lengths)) == (30, 0, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("rows_per_page", "samples"), [(1, 50), (2, 50), (400, 50), (3, 1), (3, 0)]
)
def test_small_traces_and_pages_are_arranged(method, rows_per_page, samples):
    order = arrange(grouped_trace(samples)[0], rows_per_page, 1.0, method=method)
    for name, table in order.tables.items():
        assert table.page_lengths.max(initial=0) <= rows_per_page
        assert table.row_order(name).num_rows == len(table.rows)


def test_order_depends_on_nothing_after_the_learned_part():
    trace, _ = grouped_trace()
    other = Trace.from_accesses(
        np.concatenate([trace.accesses()[:6000], np.zeros(6000, np.uint64)]),
        trace.lengths.sum(axis=0), ["item", "user"], trace.num_embeddings,
    )  # fmt: skip
    orders = [arrange(source, 10, 0.5, method="greedy") for source in (trace, other)]
    np.testing.assert_array_equal(*(order.tables["item"].rows for order in orders))


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method: expected one of .*greedy, got 'best'"):
        arrange(grouped_trace(10)[0], 10, method="best")


@pytest.mark.parametrize("method", METHODS)
def test_command_learns_an_order_that_reads_less(trace_path, tmp_path, capsys, method):
    out = tmp_path / "order.npz"
    assert run("arrange", trace_path, "--out", out, "--method", method) == 0
    printed = capsys.readouterr().out
    before, after = map(float, re.search(r"(\S+) before, (\S+)\s+after", printed).groups())
    assert after < 0.6 * before
    order = Order.read(out)
    trace, _ = grouped_trace()
    assert reads_of(trace, order) < 0.6 * reads_of(trace)
    assert run("arrange", trace_path, "--out", out) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "T, --order: expected a trace to learn from, or an order"),
        (["{trace}"], "--out: expected the file of the order"),
        (["--order", "{order}"], "--order: expected --apply or --export-permutation with it"),
        (["--order", "{order}", "--out", "x"], "--out: no effect with --order"),
        (["{trace}", "--out", "{new}", "--dtype", "int3"], "int3"),
        (["--order", "{trace}", "--apply", "x"], "invalid order"),
    ],
)
def test_command_refuses_contradictory_options(trace_path, tmp_path, capsys, words, message):
    order = tmp_path / "order.npz"
    order_for(np.random.default_rng(1), item=(1500, 64, "float32")).write(order)
    named = {"trace": trace_path, "order": order, "new": tmp_path / "new.npz"}
    assert run("arrange", *(word.format(**named) for word in words)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.npz").exists()


def test_exported_permutation_renumbers_rows(trace_path, tmp_path):
    out, export = tmp_path / "order.npz", tmp_path / "rows.npz"
    run("arrange", trace_path, "--out", out, "--export-permutation", export)
    trace, _ = grouped_trace()
    new = np.load(export)
    assert sorted(new.files) == ["item", "user"]
    np.testing.assert_array_equal(new["user"], np.arange(30))
    renumbered = Trace.from_lengths(
        np.concatenate([new["item"][trace.indices[:10_000]], trace.indices[10_000:]]),
        trace.lengths, trace.table_names, trace.num_embeddings,
    )  # fmt: skip
    assert reads_of(renumbered) < 0.6 * reads_of(trace)


# Files


@pytest.fixture
def table_file(tmp_path):
    path = tmp_path / "emb.tier"
    with ta.TieredStore(path, mode="w", fast_bytes="1MiB") as store:
        store.create_table("item", 1500, 64).load(numbered_rows(1500, 64))
        store.create_table("plain", 70, 5, "float16", resident=True).load(
            numbered_rows(70, 5, "float16")
        )
    return path


def rows_of(path):
    with ta.TieredStore(path, mode="r", fast_rows=64) as store:
        return {name: table.lookup(np.arange(len(table))) for name, table in store.tables.items()}


def test_applied_order_keeps_rows_and_updates(trace_path, table_file, tmp_path, capsys):
    out = tmp_path / "order.npz"
    run("arrange", trace_path, "--out", out)
    with ta.TieredStore(table_file, fast_rows=8) as store:
        store.table("item").update([3, 77], numbered_rows(2, 64, first=9000))
    os.chmod(table_file, 0o640)
    expected = rows_of(table_file)
    assert run("arrange", "--order", out, "--apply", table_file) == 0
    assert f"{table_file}: arranged item" in capsys.readouterr().out
    assert os.stat(table_file).st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["emb.tier", "order.npz"]
    for name, rows in rows_of(table_file).items():
        np.testing.assert_array_equal(rows, expected[name])
    order = Order.read(out).tables["item"]
    with ta.TieredStore(table_file, mode="r", fast_bytes="1MiB") as store:
        assert store._core.order(0).num_rows == len(order.rows)
        assert store._core.residency(1) is True
        assert run("check", table_file) == 0
    # A second order replaces the first; a table that it does not have keeps its own.
    second = order_for(np.random.default_rng(4), plain=(70, 5, "float16"))
    assert apply(str(table_file), second) == ["plain"]
    with ta.TieredStore(table_file, mode="r", fast_bytes="1MiB") as store:
        assert store._core.order(0).num_rows == len(order.rows)
        assert store._core.order(1).num_rows == len(second.tables["plain"].rows)
    for name, rows in rows_of(table_file).items():
        np.testing.assert_array_equal(rows, expected[name])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"item": (1501, 64, "float32")}, "is an order of 1501 rows; expected one of 1500"),
        ({"item": (1500, 32, "float32")}, "is an order of 31 rows per page; expected 15"),
        ({"other": (1500, 64, "float32")}, "is an order of table 'other'; .* has 'item', 'plain'"),
    ],
)
def test_order_of_other_tables_writes_nothing(table_file, tmp_path, tables, message):
    before = table_file.read_bytes()
    order = order_for(np.random.default_rng(2), **tables)
    with pytest.raises(ValueError, match=message):
        apply(str(table_file), order)
    assert table_file.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["emb.tier"]


def test_open_file_is_not_rewritten(table_file):
    order = order_for(np.random.default_rng(2), item=(1500, 64, "float32"))
    with ta.TieredStore(table_file, fast_rows=8), pytest.raises(OSError, match="open in another"):
        apply(str(table_file), order)


def process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tieralloc", "arrange", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_killed_apply_leaves_the_old_file_or_the_new_one(tmp_path):
    path, out = tmp_path / "emb.tier", tmp_path / "order.npz"
    values = numbered_rows(60_000, 64)
    rng = np.random.default_rng(3)
    order_for(rng, item=(60_000, 64, "float32")).write(out)
    outcomes = set()
    for delay in (0.0, 0.05, 0.2, 0.4, 0.7, 1.0, None):
        with ta.TieredStore(path, mode="w", fast_rows=64) as store:
            store.create_table("item", 60_000, 64).load(values)
            store.table("item").update([5], values[:1])
        running = process("--order", out, "--apply", path)
        temporary = tmp_path / "emb.tier.tmp"
        if delay is not None:
            while running.poll() is None and not temporary.exists():
                time.sleep(0.005)
            time.sleep(delay)
            running.kill()
        running.communicate()
        with ta.TieredStore(path, mode="r", fast_rows=64) as store:
            found = store.table("item").lookup(np.arange(60_000))
            outcomes.add(store._core.order(0) is not None)
        np.testing.assert_array_equal(found[6:], values[6:])
        np.testing.assert_array_equal(found[5], values[0])
    assert outcomes == {True, False}
    assert not temporary.exists() or delay is not None


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_learning_ends_at_once(tmp_path, method):
    path, out = tmp_path / "long.npz", tmp_path / "order.npz"
    write(grouped_trace(samples=600_000, groups=20_000)[0], path)
    running = process(path, "--out", out, "--method", method)
    time.sleep(2)
    assert running.poll() is None
    started = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=10)
    assert time.monotonic() - started < 5  # a second, on a machine that is not busy
    assert running.returncode == 130
    assert err.endswith("tieralloc: interrupted\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["long.npz"]

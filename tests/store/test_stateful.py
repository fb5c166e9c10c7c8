"""Random calls on a store, and on plain arrays."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import (
    DTYPES,
    FILE_OPTIONS,
    POLICIES,
    ends_of,
    flat,
    pooled,
    store_of,
    stored,
    widened,
)

import tieralloc as ta
from tieralloc.tools.emulated import EmulatedMemory

# Slow tiers: for each a function that creates a store in a folder, and a function that opens it
# again, or None if the store's rows end with it.
POOLS = {
    f"file by {engine}": (
        lambda folder, engine=engine, **options: store_of(
            folder / "new.tier", engine=engine, **options
        ),
        lambda folder, engine=engine, **options: store_of(
            folder / "new.tier", "r+", engine=engine, **options
        ),
    )
    for engine, refusal in ta._bindings.fetch_engines().items()
    if not refusal
}

POOLS |= {
    f"{slow} {slow.promotion}": (
        lambda folder, slow=slow, **options: ta.TieredStore(
            slow=slow, **{name: options[name] for name in options.keys() - FILE_OPTIONS}
        ),
        None,
    )
    for slow in (
        ta.NumaMemory(0, spill=True, promotion="always"),
        ta.NumaMemory(0, spill=True, promotion="never"),
        EmulatedMemory(30),
    )
}

MODES = ("sum", "mean", "max")
SMALL = st.integers(0, 100)  # exact in every dtype, as are small sums


class StoreMachine(RuleBasedStateMachine):
    """Every call on a store and on arrays; `make` and `reopen` are those of a slow tier."""

    make = reopen = None

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tieralloc-test-"))
        self.store = None
        self.rows = {}  # stored rows of each table
        self.pinned = set()  # of (table, row)

    def teardown(self):
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder)

    # Random arguments

    options = st.fixed_dictionaries(
        {
            "policy": st.sampled_from(POLICIES),
            "prefetch_threads": st.integers(1, 3),
            "queue_depth": st.sampled_from([1, 4, 64]),
            "direct": st.booleans(),
            "reserve": st.booleans(),
        }
    )
    budgets = st.integers(1, 12).map(lambda rows: {"fast_rows": rows}) | (
        st.integers(16_384, 40_000) | st.just(4 << 20)
    ).map(lambda size: {"fast_bytes": size})

    def random_table(self, data):
        name = data.draw(st.sampled_from(sorted(self.rows)), label="table")
        return self.store.table(name), self.rows[name]

    def random_rows(self, data, table, max_rows=20):
        return data.draw(st.lists(st.integers(0, len(table) - 1), max_size=max_rows), label="rows")

    def random_values(self, data, table, count):
        numbers = data.draw(st.lists(SMALL, min_size=count, max_size=count), label="values")
        values = np.array(numbers)[:, None] + np.arange(table.embedding_dim) % 3
        return stored(values.reshape(count, table.embedding_dim), table.dtype)

    # Rules

    @initialize(options=options, budget=budgets)
    def begin(self, options, budget):
        self.store = self.make_store(options, budget)

    def make_store(self, options, budget):
        if type(self).reopen is None and "fast_bytes" in budget:
            # Staged updates and reference counts take memory there.
            budget = {"fast_bytes": budget["fast_bytes"] + 12_288}
        return type(self).make(self.folder, **options, **budget)

    @precondition(lambda self: len(self.rows) < 4)
    @rule(
        rows=st.integers(1, 40),
        dim=st.sampled_from([1, 4, 16, 20, 33]),
        dtype=st.sampled_from(DTYPES),
        resident=st.sampled_from(["auto", True, False]),
    )
    def create_table(self, rows, dim, dtype, resident):
        name = next(f"t{n}" for n in range(4) if f"t{n}" not in self.rows)
        try:
            table = self.store.create_table(name, rows, dim, dtype, resident=resident)
        except ValueError as error:
            assert re.search("too small|resident: table", str(error))  # noqa: PT017
            assert name not in self.store.tables
            return
        self.rows[name] = stored(np.zeros((rows, dim)), dtype)
        self.forget_pins_of_resident_tables()
        assert len(table) == rows

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def load(self, data):
        table, rows = self.random_table(data)
        first = data.draw(st.integers(0, len(table)), label="start")
        count = data.draw(st.integers(0, len(table) - first), label="count")
        values = self.random_values(data, table, count)
        table.load(values, start=first)
        rows[first : first + count] = values

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def update(self, data):
        table, rows = self.random_table(data)
        wanted = self.random_rows(data, table)
        values = self.random_values(data, table, len(wanted))
        table.update(wanted, values)
        for row, value in zip(wanted, values, strict=True):
            rows[row] = value

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def lookup(self, data):
        table, rows = self.random_table(data)
        wanted = self.random_rows(data, table)
        np.testing.assert_array_equal(table.lookup(wanted), rows[wanted] if wanted else rows[:0])

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), mode=st.sampled_from(MODES), padded=st.booleans())
    def embedding_bag(self, data, mode, padded):
        table, rows = self.random_table(data)
        bags = [self.random_rows(data, table, max_rows=5) for _ in range(3)]
        padding = 0 if padded else None
        result = table.embedding_bag(flat(bags), ends_of(bags)[:-1], mode, padding_idx=padding)
        expected = pooled(widened(rows, table.dtype), bags, mode, padding_idx=padding)
        np.testing.assert_array_equal(result, stored(expected, table.dtype))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), mode=st.sampled_from(MODES))
    def bags_of_many_tables(self, data, mode):
        names = data.draw(st.lists(st.sampled_from(sorted(self.rows)), min_size=1, max_size=4))
        tables = [self.store.table(name) for name in names]
        if len({table.dtype == "float64" for table in tables}) == 2:
            return
        bags = [[self.random_rows(data, table, max_rows=4) for _ in range(2)] for table in tables]
        every_bag = [bag for part in bags for bag in part]
        self.store.prefetch(flat(every_bag), ends_of(every_bag), tables=names)
        result = self.store.embedding_bag(flat(every_bag), ends_of(every_bag), tables, mode)
        types = {table.dtype for table in tables}
        expected = [
            pooled(widened(self.rows[table.name], table.dtype), part, mode)
            for table, part in zip(tables, bags, strict=True)
        ]
        dtype = types.pop() if len(types) == 1 else "float32"
        np.testing.assert_array_equal(result, stored(np.concatenate(expected, axis=1), dtype))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def prefetch(self, data):
        table, _ = self.random_table(data)
        wanted = self.random_rows(data, table)
        assert table.prefetch(wanted) <= len(wanted)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def pin(self, data):
        table, _ = self.random_table(data)
        wanted = self.random_rows(data, table, max_rows=4)
        try:
            table.pin(wanted)
        except ValueError as error:
            assert "pin: too many rows" in str(error)  # noqa: PT017
            return
        if not table.resident:
            self.pinned |= {(table.name, row) for row in wanted}
        self.store.reset_stats()
        table.lookup(wanted)
        assert self.store.stats().on_demand_fetches == 0

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def unpin(self, data):
        table, _ = self.random_table(data)
        wanted = self.random_rows(data, table)
        table.unpin(wanted)
        self.pinned -= {(table.name, row) for row in wanted}

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def call_with_row_out_of_range(self, data):
        table, _ = self.random_table(data)
        outside = data.draw(st.sampled_from([-1, len(table), 1 << 40]))
        dim = table.embedding_dim
        out = stored(np.full((2, dim), 7), table.dtype)
        for call in (
            lambda: table.lookup([0, outside], out=out),
            lambda: table.update([0, outside], out),
            lambda: table.pin([0, outside]),
        ):
            with pytest.raises(IndexError, match=f"got {outside}$"):
                call()
        assert (widened(out, table.dtype) == 7).all()

    @rule(budget=budgets)
    def resize(self, budget):
        resident = {name for name in self.rows if self.store.table(name).resident}
        before = self.store.stats()
        try:
            self.store.resize(**budget)
        except ValueError as error:
            assert re.search("too small|reserved", str(error))  # noqa: PT017
            assert self.store.stats().fast_rows == before.fast_rows
        self.check_moved(before, resident)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), size=st.none() | st.integers(1, 30_000))
    def reserve(self, data, size):
        table, _ = self.random_table(data)
        resident = {name for name in self.rows if self.store.table(name).resident}
        before = self.store.stats()
        try:
            table.reserve(fast_bytes=size)
        except ValueError as error:
            assert re.search("too small|reserved|in DRAM as a whole", str(error))  # noqa: PT017
        self.check_moved(before, resident)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def drop_table(self, data):
        table, _ = self.random_table(data)
        try:
            self.store.drop_table(table.name)
        except ValueError as error:
            assert re.search("too small|reserved", str(error))  # noqa: PT017
            return
        del self.rows[table.name]
        self.pinned = {(name, row) for name, row in self.pinned if name != table.name}
        for call in (table.lookup, table.prefetch, table.pin):
            with pytest.raises(ValueError, match=f"table '{table.name}' was dropped"):
                call([0])
        self.forget_pins_of_resident_tables()
        fits = self.store.stats().fast_tier.pinned_rows
        assert fits <= len(self.pinned)
        if fits < len(self.pinned):  # not which
            for name in self.rows:
                self.store.table(name).unpin(np.arange(len(self.rows[name])))
            self.pinned.clear()

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), more=st.integers(0, 40))
    def resize_table(self, data, more):
        table, rows = self.random_table(data)
        try:
            table.resize(len(rows) + more)
        except ValueError as error:
            assert re.search("too small|reserved|resident:", str(error))  # noqa: PT017
            return
        added = np.zeros((more, *rows.shape[1:]), rows.dtype)
        self.rows[table.name] = np.concatenate([rows, added])
        self.forget_pins_of_resident_tables()

    def forget_pins_of_resident_tables(self):
        now = {name for name in self.rows if self.store.table(name).resident}
        self.pinned = {(name, row) for name, row in self.pinned if name not in now}
        return now

    def check_moved(self, before, resident):
        after = self.store.stats()
        now = self.forget_pins_of_resident_tables()
        if now == resident and after.fast_rows >= before.fast_rows and len(self.rows) == 1:
            assert after.fast_tier.resident_rows >= before.fast_tier.resident_rows

    @rule()
    def flush(self):
        self.store.flush()

    @rule(options=options, budget=budgets)
    def close_and_open(self, options, budget):
        self.store.close()
        self.pinned.clear()
        if type(self).reopen is None:
            self.make_again(options, budget)
            return
        try:
            self.store = type(self).reopen(self.folder, **options, **budget)
        except ValueError as error:
            assert "too small for the tables" in str(error)  # noqa: PT017
            self.store = type(self).reopen(self.folder, fast_rows=8)
        assert list(self.store.tables) == list(self.rows)

    def make_again(self, options, budget):
        former = self.store.tables
        try:
            self.store = self.make_store(options, budget)
            self.fill(former)
        except ValueError as error:
            assert "too small for the tables" in str(error)  # noqa: PT017
            self.store.close()
            self.store = self.make_store(options, {"fast_rows": 8})
            self.fill(former)

    def fill(self, former):
        for name, rows in self.rows.items():
            table = former[name]
            layout = (len(table), table.embedding_dim, table.dtype)
            self.store.create_table(name, *layout).load(rows)

    @invariant()
    def stats_are_consistent(self):
        if self.store is None:
            return
        stats = self.store.stats()
        assert stats.lookups == stats.hits + stats.on_demand_fetches
        assert stats.fast_tier.pinned_rows == len(self.pinned)
        assert stats.fast_tier.resident_rows <= stats.fast_rows
        assert stats.updates.write_back_errors == 0


@pytest.mark.parametrize("pool", POOLS)
def test_store_any_calls_equals_arrays(pool):
    make, reopen = POOLS[pool]
    members = {"make": staticmethod(make), "reopen": reopen and staticmethod(reopen)}
    machine = type("Machine", (StoreMachine,), members)
    examples = 60 if reopen else 20  # a store of memory measures its costs when it opens
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40)
    )

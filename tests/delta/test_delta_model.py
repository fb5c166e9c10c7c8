"""Random deltas, updates and crashes of a store against plain arrays and a version."""

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
    rule,
    run_state_machine_as_test,
)
from order_support import order_for
from support import store_of

import tieralloc as ta

ROWS = {"copied": 40, "arranged": 30, "resident": 25, "quantised": 20}


class DeltaMachine(RuleBasedStateMachine):
    """Applies deltas in each form; a copy of the open files is what a kill would leave."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tieralloc-test-"))
        self.version = 0
        self.number = 0  # of value arrays

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    @property
    def path(self):
        return self.folder / "new.tier"

    @initialize(budget=st.sampled_from([{"fast_rows": 6}, {"fast_bytes": "1MiB"}]))
    def begin(self, budget):
        self.store = store_of(self.path, **budget)
        create = self.store.create_table
        order = order_for(np.random.default_rng(1), arranged=(ROWS["arranged"], 100, "float32"))
        create("copied", ROWS["copied"], 16, resident=False)
        create("arranged", ROWS["arranged"], 100, order=order)
        create("resident", ROWS["resident"], 4)
        create("quantised", ROWS["quantised"], 8, dtype="int8")
        self.rows = {
            name: np.zeros((len(table), table.row_bytes), np.uint8)
            for name, table in self.store.tables.items()
        }

    def make_values(self, name, count):
        """Return rows as bytes: whole codes and valid floats alike."""
        self.number += 1
        table = self.store.table(name)
        numbers = np.arange(count * table.embedding_dim, dtype=np.float32) + 1000 * self.number
        if table.dtype == "float32":
            return numbers.reshape(count, table.embedding_dim).view(np.uint8)
        codes = (np.arange(count * table.row_bytes) + 7 * self.number) % 60
        return codes.astype(np.uint8).reshape(count, table.row_bytes)

    def as_rows(self, name, values):
        return values if name == "quantised" else values.view(np.float32)

    def random_part(self, data):
        name = data.draw(st.sampled_from(sorted(ROWS)), label="table")
        rows = data.draw(st.lists(st.integers(0, ROWS[name] - 1), max_size=12), label="rows")
        is_deletion = data.draw(st.booleans(), label="deletes")
        return name, rows, None if is_deletion else self.make_values(name, len(rows))

    def random_delta(self, data, version, follows):
        parts = [self.random_part(data) for _ in range(data.draw(st.integers(0, 4), label="parts"))]
        public = [
            (name, rows, None if values is None else self.as_rows(name, values))
            for name, rows, values in parts
        ]
        form = data.draw(st.sampled_from(["list", "iterator", "file"]), label="form")
        delta = ta.Delta(version, follows, iter(public) if form == "iterator" else public)
        if form != "file":
            return delta, parts
        delta.write(self.folder / "delta")
        return self.folder / "delta", parts

    @rule(data=st.data(), step=st.integers(1, 3))
    def apply(self, data, step):
        delta, parts = self.random_delta(data, self.version + step, self.version)
        applied = self.store.apply(delta)
        self.version += step
        assert applied.version == self.version
        assert applied.rows == sum(len(rows) for _, rows, _ in parts)
        for name, rows, values in parts:
            for i, row in enumerate(rows):
                self.rows[name][row] = 0 if values is None else values[i]

    @rule(data=st.data(), version=st.integers(1, 12), follows=st.integers(0, 11))
    def apply_in_wrong_order(self, data, version, follows):
        if follows in (self.version, version) or follows >= version:
            return
        delta, _ = self.random_delta(data, version, follows)
        with pytest.raises(ta.DeltaError, match=f"the store is at version {self.version}, "):
            self.store.apply(delta)

    @rule(data=st.data())
    def apply_with_an_invalid_part(self, data):
        delta, _ = self.random_delta(data, self.version + 1, self.version)
        if not isinstance(delta, ta.Delta):
            return
        bad = data.draw(
            st.sampled_from([("copied", [1, 40], None), ("copied", [0], np.ones((1, 3), "f4"))])
        )
        with pytest.raises((IndexError, ValueError), match="copied"):
            self.store.apply(ta.Delta(self.version + 1, self.version, [*delta.parts, bad]))

    @rule(data=st.data())
    def update(self, data):
        name, rows, values = self.random_part(data)
        if values is None:
            return
        self.store.table(name).update(rows, self.as_rows(name, values))
        for i, row in enumerate(rows):
            self.rows[name][row] = values[i]

    @rule(data=st.data())
    def look_up(self, data):
        name = data.draw(st.sampled_from(sorted(ROWS)), label="table")
        rows = data.draw(st.lists(st.integers(0, ROWS[name] - 1), max_size=6), label="rows")
        self.store.table(name).lookup(rows)

    @rule()
    def flush(self):
        self.store.flush()

    @rule(budget=st.sampled_from([{"fast_rows": 8}, {"fast_bytes": "1MiB"}]))
    def close_and_open(self, budget):
        self.store.close()
        self.store = store_of(self.path, "r+", **budget)

    @rule(mode=st.sampled_from(["r", "r+"]))
    def killed_store_has_rows_and_version(self, mode):
        with tempfile.TemporaryDirectory(dir=self.folder) as copies:
            for file in self.folder.glob("new.tier*"):
                shutil.copy(file, copies)
            with store_of(Path(copies) / "new.tier", mode, fast_rows=8) as store:
                self.check(store)

    @invariant()
    def rows_and_version_are_current(self):
        if hasattr(self, "store"):
            self.check(self.store)

    def check(self, store):
        assert store.version == self.version
        for name, rows in self.rows.items():
            found = store.table(name).lookup(np.arange(len(rows)), raw=True)
            np.testing.assert_array_equal(found, rows)


def test_deltas_and_updates_equal_arrays():
    run_state_machine_as_test(
        DeltaMachine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )

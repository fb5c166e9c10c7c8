# distutils: language = c++
"""A store but for the calls that serve: tables, loads, checks, warm-up, recording, statistics."""

import numpy as np

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.arguments cimport dtype_name, residency_choice, row_array, word_array
from tieralloc._bindings.buffers cimport Buffer, rows_buffer
from tieralloc._bindings.core.base cimport Statistics, byte
from tieralloc._bindings.core.slow_tier cimport TableLayout, c_TableRow, rows_of_page
from tieralloc._bindings.core.store cimport (
    AccessSamples,
    FastBudget,
    SavedRow,
    SavedRowSpan,
    c_Store,
    c_Table,
    statistics_of,
)
from tieralloc._bindings.request cimport table_at
from tieralloc._bindings.row_order cimport RowOrder
from tieralloc._bindings.statistics cimport statistics_dict


cdef class StoreBase:
    """The C++ store of a `Store`, which opens it and serves from it."""

    def __dealloc__(self):
        cdef shared_ptr[c_Store]* kept  # for ever
        # A forked child lacks the store's threads: there the store cannot be destroyed.
        if self._store.get() != NULL and not self._store.get().belongs_here():
            kept = new shared_ptr[c_Store](self._store)
        with nogil:
            self._store.reset()

    def share(self):
        """Another object of the same C++ store, which lives until the last one ends."""
        cdef StoreBase shared = StoreBase.__new__(StoreBase)
        shared._store = self._store
        shared._tables = self._tables
        return shared

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL:
        return table_at(self._tables, position)

    def tables(self):
        """Name, rows, dim, dtype and bytes per row of each table, in order of creation."""
        cdef const c_Table* table
        found = []
        self._tables = self._store.get().tables()  # another object may have made some
        for table in self._tables:
            if table.is_dropped.load():
                continue
            found.append((table.layout.name.decode(), table.num_rows(), table.layout.dim,
                          dtype_name(table.layout.dtype), table.layout.row_bytes()))
        return found

    def positions(self):
        """The positions of `tables`. That of a dropped table is not used again."""
        cdef Py_ssize_t position
        return [position for position in range(<Py_ssize_t>self._tables.size())
                if not self._tables[position].is_dropped.load()]

    def drop_table(self, Py_ssize_t position):
        """Remove a table; its space and name are free then."""
        cdef const c_Table* table = self._table(position)
        with nogil:
            self._store.get().drop_table(table[0])

    def grow_table(self, Py_ssize_t position, uint64_t rows):
        """Give a table further rows, of zeros."""
        cdef const c_Table* table = self._table(position)
        with nogil:
            self._store.get().grow_table(table[0], rows)

    cdef TableLayout _layout(self, Py_ssize_t position) except *:
        return self._store.get().layout_of(self._table(position)[0])

    def load(self, Py_ssize_t position, uint64_t first, values):
        """Write rows from `first` on to the slow tier only; return their number."""
        cdef const c_Table* table = self._table(position)
        cdef bint floats
        cdef Buffer lent = rows_buffer(values, table, -1, &floats)
        cdef uint64_t rows = <uint64_t>lent.view.shape[0]
        with nogil:
            if floats:
                self._store.get().load_floats(table[0], first, rows, <const float*>lent.view.buf)
            else:
                self._store.get().load(table[0], first, rows, <const byte*>lent.view.buf)
        return rows

    def is_resident(self, Py_ssize_t position):
        """Whether a table lies in DRAM as a whole."""
        cdef const c_Table* table = self._table(position)
        cdef bint resident
        with nogil:
            resident = self._store.get().is_resident(table[0])
        return bool(resident)

    def pages(self, Py_ssize_t position):
        """Number of pages of a table, rows per page, and whether the pages have checksums."""
        cdef TableLayout layout = self._layout(position)
        return layout.num_pages(), layout.pages.rows_per_page, bool(layout.pages.has_footer)

    def residency(self, Py_ssize_t position):
        """Whether a table is to lie in DRAM as a whole: "auto", True or False."""
        return residency_choice(self._layout(position).residency)

    def rows_of_page(self, Py_ssize_t position, uint64_t page):
        """The rows in a page of a table, (n,) uint64, ascending."""
        cdef TableLayout layout = self._layout(position)
        cdef vector[uint64_t] rows
        cdef c_TableRow row
        for row in rows_of_page(layout, layout.offset + page * layout.pages.page_bytes):
            rows.push_back(row.value)
        return row_array(rows)

    def order(self, Py_ssize_t position):
        """The order of a table; None if it has none."""
        cdef TableLayout layout = self._layout(position)
        cdef RowOrder order
        if not layout.order:
            return None
        order = RowOrder.__new__(RowOrder)
        order._order = layout.order
        return order

    def damaged_pages(self, Py_ssize_t position, uint64_t first, uint64_t n):
        """Read and check `n` pages of a table; return the numbers of damaged ones."""
        cdef const c_Table* table = self._table(position)
        cdef vector[uint64_t] pages
        with nogil:
            pages = self._store.get().damaged_pages(table[0], first, n)
        return list(pages)

    def settle(self):
        """Return when the loads are durable."""
        with nogil:
            self._store.get().settle()

    def capacities(self):
        """Rows of each fast tier."""
        cdef vector[uint64_t] capacities
        with nogil:
            capacities = self._store.get().capacities()
        return list(capacities)

    def flush(self):
        """Write back all earlier updates; return when they are durable."""
        with nogil:
            self._store.get().flush()

    def resize(self, uint64_t fast_bytes, uint64_t fast_rows):
        """Change the budget of the fast tier; return when the resident rows have moved."""
        cdef FastBudget budget
        budget.bytes = fast_bytes
        budget.rows = fast_rows
        with nogil:
            self._store.get().resize(budget)

    def reserve(self, Py_ssize_t position, uint64_t fast_bytes):
        """Give a table at least `fast_bytes` of the fast tier; 0: a share of it."""
        cdef const c_Table* table = self._table(position)
        with nogil:
            self._store.get().reserve(table[0], fast_bytes)

    def warm_up(self, const uint64_t[::1] rows not None):
        """Bring saved rows into free slots, in this eviction order; return the rows read."""
        cdef SavedRowSpan span
        cdef uint64_t read
        if rows.shape[0] > 0:
            span = SavedRowSpan(<const SavedRow*>&rows[0], <size_t>rows.shape[0])
        with nogil:
            read = self._store.get().warm_up(span)
        return read

    def resident_rows(self):
        """Rows with a copy in the fast tier, as words of SavedRow, in no order."""
        cdef vector[SavedRow] rows
        with nogil:
            rows = self._store.get().resident_rows()
        return saved_row_array(rows)

    def copy_residents(self, StoreBase source not None):
        """Bring in the resident rows of a store of the same tables; return their number.

        In turns with pauses. The calling thread becomes a background thread. `close` ends it with
        ValueError; other calls must not use this store meanwhile.
        """
        cdef uint64_t rows
        with nogil:
            rows = self._store.get().copy_residents(source._store.get()[0])
        return rows

    def copy_pins(self, StoreBase source not None):
        """Pin the rows that are pinned in a store of the same tables, and no others."""
        with nogil:
            self._store.get().copy_pins(source._store.get()[0])

    @property
    def records(self):
        """Whether a recorder or a policy gets the accesses of lookups."""
        return self._store.get().records()

    def record_accesses(self, size_t capacity):
        """Record accesses in a ring of `capacity` words per thread; 0 stops recording.

        Returns the accesses recorded before, as `drain_accesses` does.
        """
        cdef AccessSamples samples
        with nogil:
            samples = self._store.get().record_accesses(capacity)
        return row_array(samples.rows), word_array(samples.lengths), samples.dropped

    def drain_accesses(self):
        """Take the recorded accesses, sample by sample.

        Returns rows, uint64; the lengths of samples, uint32; and the accesses dropped since the
        store was opened.
        """
        cdef AccessSamples samples
        with nogil:
            samples = self._store.get().drain_accesses()
        return row_array(samples.rows), word_array(samples.lengths), samples.dropped

    def policy_stats(self):
        """Statistics of the model; their state is empty while a simple policy evicts."""
        cdef Statistics statistics
        with nogil:
            statistics = statistics_of(self._store.get().policy_stats())
        return statistics_dict(statistics)

    @property
    def store_id(self):
        """The random id of the file; 0 if it has none."""
        return self._store.get().store_id()

    @property
    def version(self):
        """The version of the last delta; 0: there was none."""
        return self._store.get().version()

    @property
    def write_back_error(self):
        """Text of the last failed write-back or sync; empty after a later one succeeded."""
        cdef string text
        with nogil:
            text = self._store.get().write_back_error()
        return text.decode("utf-8", "surrogateescape")

    @property
    def closed(self):
        """Whether `close` has ended the store."""
        return self._store.get().closed()

    @property
    def belongs_here(self):
        """False in a forked child of the process that made the store."""
        return self._store.get().belongs_here()

    def reset_stats(self):
        """Reset all counters and histograms."""
        with nogil:
            self._store.get().reset_stats()

    def stats(self):
        """Statistics as `tieralloc.stats.StoreStats` documents them, without the policy."""
        cdef Statistics statistics
        with nogil:
            statistics = statistics_of(self._store.get().stats())
        return statistics_dict(statistics)


    def close(self, bint lists_resident=False):
        """Flush and close; closing twice does nothing.

        Returns None, or the resident rows as `resident_rows` does, the next victim first.
        """
        cdef vector[SavedRow] rows
        with nogil:
            self._store.get().close(&rows if lists_resident else NULL)
        return saved_row_array(rows) if lists_resident else None


cdef object saved_row_array(const vector[SavedRow]& rows):
    array = np.empty(rows.size(), dtype=np.uint64)
    cdef uint64_t[::1] view = array
    if rows.size() > 0:
        memcpy(&view[0], rows.data(), rows.size() * sizeof(SavedRow))
    return array

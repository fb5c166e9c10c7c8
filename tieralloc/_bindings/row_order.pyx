# distutils: language = c++
"""The order of a table's rows: which of them share pages, and the map to their places."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.arguments cimport dtype_of, row_array, word_array
from tieralloc._bindings.core.slow_tier cimport (
    LengthSpan,
    PageLayout,
    RowSpan,
    make_row_order,
    stride_of,
)


cdef class RowOrder:
    """The order of a table's rows.

    Parameters
    ----------
    table : str
        The table's name, for errors.
    rows, rows_per_page : int
        Rows of the table, and of a page.
    arranged : (n,) uint64
        Rows, page after page.
    page_lengths : (pages,) uint32
        Rows of each page.
    """

    def __cinit__(self, str table=None, uint64_t rows=0, uint32_t rows_per_page=0,
                  const uint64_t[::1] arranged=None, const uint32_t[::1] page_lengths=None):
        if table is None:  # made by a store
            return
        cdef string name = table.encode()
        cdef const uint64_t* first_row = NULL
        cdef const uint32_t* first_length = NULL
        cdef size_t num_rows = <size_t>arranged.shape[0]
        cdef size_t num_pages = <size_t>page_lengths.shape[0]
        if num_rows > 0:
            first_row = &arranged[0]
        if num_pages > 0:
            first_length = &page_lengths[0]
        with nogil:
            self._order = make_row_order(name, rows, rows_per_page, RowSpan(first_row, num_rows),
                                         LengthSpan(first_length, num_pages))

    @property
    def bytes(self):
        """DRAM of the map from rows to places."""
        return self._order.get().bytes()

    @property
    def num_rows(self):
        """Number of arranged rows."""
        return self._order.get().num_rows()

    def arranged(self):
        """All arranged rows in the order of the file, (n,) uint64."""
        cdef vector[uint64_t] rows
        with nogil:
            rows = self._order.get().arranged()
        return row_array(rows)

    def page_lengths(self):
        """Rows of each page in the order of the file, (pages,) uint32."""
        cdef vector[uint32_t] lengths
        cdef uint64_t page
        for page in range(self._order.get().num_pages()):
            lengths.push_back(self._order.get().rows_in(page))
        return word_array(lengths)


def rows_per_page(uint32_t dim, str dtype not None):
    """Rows in a page of a file."""
    return PageLayout.paged(stride_of(dim, dtype_of(dtype))).rows_per_page

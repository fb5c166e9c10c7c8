# distutils: language = c++
"""A call that a background thread of the store serves."""

cimport cython
from libc.stdint cimport uint64_t

from tieralloc._bindings.core.slow_tier cimport milliseconds


@cython.no_gc_clear  # the thread writes to the arrays until `__dealloc__` has cancelled it
cdef class PendingCall:
    """A call in the background, with the arrays that it borrows; its end cancels it."""

    def __dealloc__(self):
        if self._lookup.get() != NULL:
            with nogil:
                self._lookup.get().cancel()

    def is_done(self):
        """Whether `result` has the outcome."""
        return self._lookup.get().is_done()

    def wait_for(self, long long duration_ms):
        """Wait for the end of the call, or some milliseconds; return whether it ended."""
        cdef bint is_done
        with nogil:
            is_done = self._lookup.get().wait_for(milliseconds(duration_ms))
        return is_done

    def result(self):
        """Of a call that ended: the array and the number of indices out of range."""
        cdef uint64_t outside = self._lookup.get().result()
        return self._request.place.array, outside

    def cancel(self):
        """Return once the call uses no array any more."""
        with nogil:
            self._lookup.get().cancel()

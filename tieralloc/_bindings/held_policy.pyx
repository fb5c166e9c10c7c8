# distutils: language = c++
"""The planned policy of a store, between two of its steps."""

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory

from tieralloc._bindings.core.eviction cimport MutableBytes, PlannerMemory
from tieralloc._bindings.core.store cimport c_HeldPolicy
from tieralloc._bindings.store_base cimport StoreBase


cdef class HeldPolicy:
    """What a policy has learnt, by tier; in a `with` block, in one thread, it makes no step."""

    def __init__(self, StoreBase store not None):
        self._store = store

    def __enter__(self):
        with nogil:
            self._held.reset(new c_HeldPolicy(self._store._store.get()[0]))
        return self

    def __exit__(self, *exception):
        with nogil:
            self._held.reset()

    def keys(self):
        """Memory of an equal key may replace that of a tier; an empty one: there is no memory."""
        cdef size_t tier
        return [self._held.get().tiers()[tier].key.decode()
                for tier in range(self._held.get().tiers().size())]

    def nbytes(self, size_t tier):
        """Bytes of a tier's memory."""
        cdef size_t part, nbytes = 0
        for part in range(self._memory(tier).parts.size()):
            nbytes += self._memory(tier).parts[part].size()
        return nbytes

    def save(self, size_t tier, write):
        """Call `write(part)` for each part of a tier's memory, in order."""
        self._each_part(tier, PyBUF_READ, write)

    def load(self, size_t tier, fill):
        """Call `fill(part)`, which replaces all bytes, for each part; the policy goes on there."""
        try:
            self._each_part(tier, PyBUF_WRITE, fill)
        finally:
            with nogil:
                self._held.get().adopt(tier)

    cdef const PlannerMemory* _memory(self, size_t tier) except NULL:
        return &self._held.get().tiers().at(tier)

    cdef _each_part(self, size_t tier, int access, act):
        cdef MutableBytes part
        cdef size_t i
        for i in range(self._memory(tier).parts.size()):
            part = self._memory(tier).parts[i]
            if part.size() == 0:
                continue
            with PyMemoryView_FromMemory(<char*>part.data(), <Py_ssize_t>part.size(),
                                         access) as view:
                act(view)

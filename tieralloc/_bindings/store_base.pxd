from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

from tieralloc._bindings.core.slow_tier cimport TableLayout
from tieralloc._bindings.core.store cimport c_Store, c_Table


cdef class StoreBase:
    cdef shared_ptr[c_Store] _store
    cdef vector[const c_Table*] _tables  # addresses stay valid; the GIL guards the vector

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL
    cdef TableLayout _layout(self, Py_ssize_t position) except *

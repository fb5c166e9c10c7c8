from libcpp.memory cimport shared_ptr

from tieralloc._bindings.core.store cimport AsyncLookup
from tieralloc._bindings.request cimport Request


cdef class PendingCall:
    cdef shared_ptr[AsyncLookup] _lookup
    cdef Request _request

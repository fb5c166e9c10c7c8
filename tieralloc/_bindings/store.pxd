from tieralloc._bindings.request cimport Request
from tieralloc._bindings.store_base cimport StoreBase


cdef class Store(StoreBase):
    cdef _serve(self, Request request, out)

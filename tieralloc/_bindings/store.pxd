from tieralloc._bindings.request cimport Request
from tieralloc._bindings.store_base cimport StoreBase


cdef class Store(StoreBase):
    cdef object __weakref__

    cdef _serve(self, Request request, out)
    cdef _submit(self, Request request, out)

# distutils: language = c++
"""Arrays of a call, whose memory the core reads or writes while the call lasts."""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    Py_buffer,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stddef cimport size_t
from libcpp.vector cimport vector

import numpy as np

from tieralloc._bindings.arguments cimport dtype_name
from tieralloc._bindings.core.base cimport DType, is_affine, size_of
from tieralloc._bindings.core.slow_tier cimport TableLayout
from tieralloc._bindings.core.store cimport Integers, c_Table


cdef class Buffer:
    """Memory of a Python object, borrowed until this object is deallocated."""

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef int borrow(self, object source, bint writable) except -1:
        cdef int flags = PyBUF_FORMAT | PyBUF_STRIDES
        PyObject_GetBuffer(source, &self.view, flags | PyBUF_WRITABLE if writable else flags)
        self.held = True
        return 0


cdef class IntegerBuffer(Buffer):
    """A one-dimensional array of int32 or int64, copied only if it is not dense and aligned."""

    cdef int take(self, object source, str what) except -1:
        if not isinstance(source, np.ndarray):
            source = np.asarray(source)
            if source.size == 0 and source.dtype.kind == "f":
                source = source.astype(np.int64)  # NumPy's type of an empty list is float64
        if source.dtype.kind != "i" or source.dtype.itemsize < 4:
            raise TypeError(f"{what}: expected int32 or int64, got {source.dtype}")
        if source.ndim != 1:
            raise ValueError(f"{what}: expected one dimension, got shape {source.shape}")
        flags = source.flags
        if not (flags.c_contiguous and flags.aligned and source.dtype.isnative):
            source = np.require(source, source.dtype.newbyteorder("="), ("C", "A"))
        self.borrow(source, False)
        self.integers.data = self.view.buf
        self.integers.size = <size_t>self.view.shape[0]
        self.integers.wide = self.view.itemsize == 8
        return 0


cdef _numpy_dtype(DType dtype):
    """The NumPy type of rows; uint16 for bfloat16, which NumPy lacks, and bytes for the rest."""
    if dtype == DType.bfloat16:
        return np.dtype(np.uint16)
    if size_of(dtype) == 1:
        return np.dtype(np.uint8)
    return np.dtype(dtype_name(dtype))


cdef bint _holds(object dtype, DType wanted):
    name = dtype_name(wanted)
    return dtype == _numpy_dtype(wanted) or (name == "bfloat16" and dtype.name == name)


cdef Buffer rows_buffer(object values, const c_Table* table, Py_ssize_t expected, bint* floats):
    """Borrow contiguous rows of the table's type, `expected` of them; -1: any number.

    Sets `floats` if they are floats that the table quantises.
    """
    array = np.asarray(values)
    cdef const TableLayout* layout = &table.layout
    name = layout.name.decode()
    floats[0] = is_affine(layout.dtype) and array.dtype == np.float32
    if not floats[0] and not _holds(array.dtype, layout.dtype):
        wanted = "float32 or uint8" if is_affine(layout.dtype) else _numpy_name(layout.dtype)
        raise TypeError(f"values: expected {wanted} as table {name!r} has it, got "
                        f"{_dtype_text(array.dtype)}")
    columns = layout.dim if floats[0] or size_of(layout.dtype) > 1 else layout.row_bytes()
    if array.ndim != 2 or array.shape[1] != columns or (
            expected >= 0 and array.shape[0] != expected):
        rows = "n" if expected < 0 else expected
        raise ValueError(f"values: expected shape ({rows}, {columns}) for table {name!r}, got "
                         f"{array.shape}")
    lent = Buffer()
    # As bytes: NumPy exports buffers of its own types only.
    lent.borrow(np.require(array, requirements=("C", "A")).view(np.uint8), False)
    return lent


cdef class OutputBuffer:
    """The results of a call: the caller's array, or a new one."""

    cdef int take(self, object out, Py_ssize_t lines, Py_ssize_t columns, DType dtype,
                  vector[DType]& others) except -1:
        self.dtype = dtype
        if out is None:
            self.array = np.empty((lines, columns), dtype=_numpy_dtype(dtype))
            target = self.array
        else:
            self.array = out
            target = self.as_lines(out, lines, columns, others)
        self.stride = <size_t>target.strides[0] if lines > 1 else 0
        self.lent = Buffer()
        # NumPy exports buffers of its own types only.
        self.lent.borrow(target.view(_numpy_dtype(self.dtype)), True)
        return 0

    cdef object as_lines(self, object out, Py_ssize_t lines, Py_ssize_t columns,
                         vector[DType]& others):
        array = _array_over(out)
        if not array.flags.writeable:
            raise ValueError("out: expected a writable buffer, got a read-only one")
        own = _numpy_dtype(self.dtype)
        flat = array.ndim == 1 and array.flags.c_contiguous
        if flat and array.dtype == np.uint8:
            if array.size != lines * columns * own.itemsize:
                raise ValueError(f"out: expected {lines} x {columns} of {own.itemsize} bytes, got "
                                 f"{array.size} bytes")
            array = array.view(own)
        cdef DType other
        if not _holds(array.dtype, self.dtype):
            for other in others:
                if _holds(array.dtype, other):
                    self.dtype = other
                    break
            else:
                names = [_numpy_name(self.dtype), *[_numpy_name(other) for other in others]]
                raise TypeError(f"out: expected {' or '.join(names)}, got "
                                f"{_dtype_text(array.dtype)}")
        if flat and array.size == lines * columns:
            array = array.reshape(lines, columns)
        if array.shape != (lines, columns):
            raise ValueError(f"out: expected shape {(lines, columns)}, got {array.shape}")
        if not array.flags.aligned:
            raise ValueError(f"out: expected elements at multiples of {array.itemsize} bytes, got "
                             "a misaligned buffer")
        # Strides of an array without elements are arbitrary.
        if array.size > 0 and (
                columns > 1 and array.strides[1] != array.itemsize
                or lines > 1 and array.strides[0] < columns * array.itemsize):
            raise ValueError(f"out: expected dense rows of {array.itemsize} bytes an element, one "
                             f"behind the other, got strides {array.strides}")
        return array


cdef object _array_over(object out):
    if isinstance(out, np.ndarray):
        return out
    try:
        if hasattr(out, "__dlpack__"):  # a tensor of torch
            return np.from_dlpack(out)
        return np.asarray(memoryview(out))
    except (TypeError, BufferError, RuntimeError) as error:
        reason = f" ({error})" if hasattr(out, "__dlpack__") else ""
        raise TypeError("out: expected an array, a tensor in DRAM or another writable buffer, got "
                        f"{type(out).__name__}{reason}") from None


cdef object _numpy_name(DType dtype):
    return "uint8" if size_of(dtype) == 1 else dtype_name(dtype)


cdef object _dtype_text(object dtype):
    return dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"


cdef Buffer weights_buffer(weights, size_t expected, DType dtype, str mode):
    if weights is None:
        return None
    if mode != "sum":
        raise ValueError(f"per_sample_weights: expected mode 'sum' with them, got {mode!r}")
    wanted = np.dtype(np.float64 if dtype == DType.float64 else np.float32)
    # Numbers of a list have no type.
    array = np.asarray(weights, dtype=wanted if isinstance(weights, (list, tuple)) else None)
    if array.dtype != wanted:
        raise TypeError(f"per_sample_weights: expected {wanted}, got {_dtype_text(array.dtype)}")
    if array.shape != (expected,):
        raise ValueError(f"per_sample_weights: expected shape ({expected},), one per index, got "
                         f"{array.shape}")
    lent = Buffer()
    lent.borrow(np.require(array, requirements=("C", "A")), False)
    return lent


cdef size_t bags_of(size_t offsets, size_t tables, bint include_last_offset) except? 0:
    cdef size_t bags = offsets
    if include_last_offset:
        if offsets == 0:
            raise ValueError("offsets: expected at least one, the end of the last bag, got none")
        bags -= 1
    if bags % tables != 0:
        raise ValueError(f"offsets: expected a multiple of {tables} tables"
                         f"{' + 1' if include_last_offset else ''}, got {offsets}")
    return bags // tables

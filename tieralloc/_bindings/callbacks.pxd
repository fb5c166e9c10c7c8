# Python functions that C++ calls: their ownership, and their exceptions.

from cpython.ref cimport PyObject
from libcpp.string cimport string


cdef extern from *:
    """
    #include <memory>

    namespace {

    /// A Python object that C++ owns; any thread may release it.
    [[maybe_unused]] std::shared_ptr<PyObject> own_python(PyObject* object) {
      Py_INCREF(object);
      return {object, [](PyObject* owned) {
                const PyGILState_STATE state = PyGILState_Ensure();
                Py_DECREF(owned);
                PyGILState_Release(state);
              }};
    }

    }  // namespace
    """


cdef void describe_exception(string* error) noexcept

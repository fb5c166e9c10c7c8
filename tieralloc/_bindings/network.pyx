# distutils: language = c++
"""Networks that policies evaluate: natively, or by a Python function."""

from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t
from libcpp.string cimport string

import numpy as np

from tieralloc._bindings.arguments cimport float_vector
from tieralloc._bindings.callbacks cimport describe_exception
from tieralloc._bindings.core.policy cimport MakeNetwork, NetworkWeights


cdef extern from *:
    """
    #include <memory>
    #include <stdexcept>
    #include <string>

    #include "policy/model.hpp"
    #include "policy/network.hpp"

    namespace {

    using EvaluateInPython = void (*)(PyObject* call, const float* features, std::size_t rows,
                                      std::uint32_t width, std::uint32_t outputs,
                                      float* probabilities, std::string* error);

    /// A network that a Python function evaluates.
    class PythonNetwork final : public tieralloc::Network {
     public:
      PythonNetwork(std::shared_ptr<PyObject> call, std::uint32_t features, std::uint32_t outputs,
                    EvaluateInPython evaluate)
          : call_(std::move(call)), features_(features), outputs_(outputs), evaluate_(evaluate) {}

      std::uint32_t features() const override { return features_; }
      std::uint32_t outputs() const override { return outputs_; }
      const char* kind() const override { return "torch"; }
      std::size_t bytes() const override { return 0; }
      void evaluate(const float* features, std::size_t rows, float* probabilities) override {
        std::string error;
        evaluate_(call_.get(), features, rows, features_, outputs_, probabilities, &error);
        if (!error.empty()) throw std::runtime_error(error);
      }

     private:
      std::shared_ptr<PyObject> call_;
      std::uint32_t features_;
      std::uint32_t outputs_;
      EvaluateInPython evaluate_;
    };

    tieralloc::PolicyModel::MakeNetwork native_network(const tieralloc::NetworkWeights& weights) {
      tieralloc::make_native_network(weights);  // invalid weights throw here
      return [weights] { return tieralloc::make_native_network(weights); };
    }

    tieralloc::PolicyModel::MakeNetwork python_network(PyObject* call, std::uint32_t features,
                                                       std::uint32_t outputs,
                                                       EvaluateInPython evaluate) {
      return [call = own_python(call), features, outputs, evaluate] {
        return std::make_unique<PythonNetwork>(call, features, outputs, evaluate);
      };
    }

    }  // namespace
    """
    ctypedef void (*EvaluateInPython)(PyObject* call, const float* features, size_t rows,
                                      uint32_t width, uint32_t outputs, float* probabilities,
                                      string* error) noexcept
    MakeNetwork native_network(const NetworkWeights& weights) except +
    MakeNetwork python_network(PyObject* call, uint32_t features, uint32_t outputs,
                               EvaluateInPython evaluate)


cdef void _evaluate_in_python(PyObject* call, const float* features, size_t rows, uint32_t width,
                              uint32_t outputs, float* probabilities,
                              string* error) noexcept with gil:
    try:
        given = np.asarray(<const float[:rows, :width]> <float*> features)
        found = np.ascontiguousarray((<object> call)(given), dtype=np.float32)
        if found.shape != (rows, outputs):
            raise ValueError(f"model: expected shape {(rows, outputs)}, got {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError("model: expected finite numbers, got NaN or infinity")
        np.asarray(<float[:rows, :outputs]> probabilities)[:] = found
    except BaseException:
        describe_exception(error)


cdef NetworkWeights _weights(arrays) except *:
    cdef NetworkWeights weights
    weights.first, weights.second = len(arrays["b1"]), len(arrays["b2"])
    weights.outputs = len(arrays["b3"])
    weights.features = 1 + len(arrays["mean"])
    weights.tables, weights.embedding_dim = np.shape(arrays["embedding"])
    weights.bound = arrays["bound"]
    weights.mean = float_vector(arrays["mean"])
    weights.scale = float_vector(arrays["scale"])
    weights.embedding = float_vector(arrays["embedding"])
    weights.w1 = float_vector(arrays["w1"])
    weights.b1 = float_vector(arrays["b1"])
    weights.w2 = float_vector(arrays["w2"])
    weights.b2 = float_vector(arrays["b2"])
    weights.w3 = float_vector(arrays["w3"])
    weights.b3 = float_vector(arrays["b3"])
    return weights


cdef class Network:
    """A network that a policy evaluates: natively, or by a Python function.

    Parameters
    ----------
    source : mapping or callable
        The weights of the perceptron that the core evaluates: arrays mean, scale, embedding,
        w1, b1, w2, b2, w3, b3 (each ``w`` (out, in)) and the number bound; or
        ``source(features) -> probabilities``, from (n, `features`), valid during the call, to
        (n, `outputs`) float32.
    features, outputs : int
        Of a callable.

    Raises
    ------
    ValueError
        For weights of contradictory sizes or that are not finite.
    """

    def __cinit__(self, source, *, uint32_t features=0, uint32_t outputs=0):
        if callable(source):
            self._make = python_network(<PyObject*> source, features, outputs, _evaluate_in_python)
        else:
            self._make = native_network(_weights(source))
        self._network = self._make()

    @property
    def kind(self):
        """Its evaluator: an instruction set, or "torch"."""
        return self._network.get().kind().decode()

    def evaluate(self, features):
        """Return probabilities, (n, outputs) float32, for features, (n, width)."""
        cdef const float[:, ::1] given = np.ascontiguousarray(features, dtype=np.float32)
        cdef uint32_t width = self._network.get().features()
        if <uint32_t> given.shape[1] != width:
            raise ValueError(f"features: expected {width} per row, got {given.shape[1]}")
        found = np.empty((given.shape[0], self._network.get().outputs()), dtype=np.float32)
        cdef float[:, ::1] view = found
        cdef size_t rows = given.shape[0]
        if rows > 0:
            with nogil:
                self._network.get().evaluate(&given[0, 0], rows, &view[0, 0])
        return found

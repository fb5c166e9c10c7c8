// network.hpp: inference of a small multilayer perceptron on the CPU.
//
//   t = clamp(f[0], 0, tables - 1)                     the row's table
//   x = clamp((f[1:] - mean) * scale, -bound, bound)
//   h = relu(W1 [x, embedding[t]] + b1)
//   h = relu(W2 h + b2)
//   p = sigmoid(W3 h + b3)
//
// Inputs: any float is accepted. f[0] is truncated to an integer. A NaN feature counts as its mean
// (x = 0), a NaN f[0] as table 0; infinities are clamped. Every p lies in 0..1 and is never NaN.
// Precision: float32. p is within 1e-4 of the same graph in double, tested for layers that keep the
// magnitude of their inputs; sums of large terms that cancel lose more.
// A row's probabilities do not depend on the other rows of the call.
// Concurrency: one thread at a time, because an object owns the scratch memory of `evaluate`.
// Cost: `evaluate` allocates nothing and takes O(rows x weights).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace tieralloc {

/// The graph above. All counts are at least 1, features at least 2.
struct NetworkWeights {
  std::uint32_t features;          ///< floats of an input row, f[0] included
  std::uint32_t tables;            ///< rows of the embedding
  std::uint32_t embedding_dim;     ///< columns of the embedding
  std::uint32_t first;             ///< width of the first hidden layer
  std::uint32_t second;            ///< width of the second hidden layer
  std::uint32_t outputs;           ///< probabilities of a row
  float bound;                     ///< above 0
  std::vector<float> mean, scale;  ///< features - 1
  std::vector<float> embedding;    ///< tables x embedding_dim
  /// Row-major (out, in), as torch.nn.Linear stores them. w1 takes features - 1 + embedding_dim.
  std::vector<float> w1, b1, w2, b2, w3, b3;
};

class Network {
 public:
  virtual ~Network() = default;

  virtual std::uint32_t features() const = 0;
  virtual std::uint32_t outputs() const = 0;

  /// Reads rows x features() floats, writes rows x outputs() probabilities. The two must not
  /// overlap; neither needs an alignment.
  virtual void evaluate(const float* features, std::size_t rows, float* probabilities) = 0;

  /// Instruction set of a native network, else the library that evaluates it.
  virtual const char* kind() const = 0;

  /// DRAM of weights and scratch memory. A native network keeps tables x first floats in place of
  /// the embedding.
  virtual std::size_t bytes() const = 0;
};

/// Makes a native network for the best instruction set of this machine. Throws
/// std::invalid_argument, naming the field, for inconsistent sizes and for values that are not
/// finite.
std::unique_ptr<Network> make_native_network(const NetworkWeights& weights);

/// Makes a native network for the instruction set `kind`, one of native_network_kinds().
std::unique_ptr<Network> make_native_network(const NetworkWeights& weights, std::string_view kind);

/// Instruction sets that this machine supports, the best first: of "avx512", "avx2" and "plain" on
/// x86-64; "neon" on AArch64.
std::vector<std::string_view> native_network_kinds();

}  // namespace tieralloc

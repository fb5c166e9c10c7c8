// network.cpp: checks weights, packs them for the kernels, and chooses the instruction set.
//
// Packing pads every width with zeros to whole vectors, transposes the weights to (in, out), and
// adds the embedding's part of the first layer to its bias, so that there is one bias per table.
#include "policy/network.hpp"

#include <cmath>
#include <cstring>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#include "base/types.hpp"

namespace tieralloc {

namespace {

inline constexpr std::size_t kBlockRows = 24;

/// out = in * weights + bias, for up to kBlockRows rows.
struct Layer {
  std::size_t inputs;
  std::size_t width;  ///< outputs, padded
  const float* in;
  std::size_t in_stride;
  const float* weights;  ///< inputs x width
  const float* bias;
  std::size_t bias_stride;  ///< 0: all rows have the same bias
  float* out;               ///< rows x width
};

/// The bias of the first layer is its output memory, initialised to the biases of the rows' tables.
struct PackedNetwork {
  std::size_t features;
  std::size_t outputs;
  std::size_t tables;
  float bound;
  std::size_t input_width;  ///< features - 1, padded
  const float* mean;        ///< input_width
  const float* scale;       ///< input_width
  const float* table_bias;  ///< tables x width of the first layer
  float* spare;             ///< input_width
  float* x;                 ///< kBlockRows x input_width
  Layer layers[3];
};

namespace plain {
inline constexpr std::size_t kVectorBytes = 16;
#ifdef __aarch64__
inline constexpr std::size_t kSums = 16;  // of 32 registers
inline constexpr const char* kName = "neon";
#else
inline constexpr std::size_t kSums = 8;  // of 16 registers
inline constexpr const char* kName = "plain";
#endif
#include "policy/network_kernels.inc"
}  // namespace plain

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TIERALLOC_X86_VARIANTS 1

#pragma GCC push_options
#pragma GCC target("avx2,fma,prefer-vector-width=256")
namespace avx2 {
inline constexpr std::size_t kVectorBytes = 32;
inline constexpr std::size_t kSums = 12;  // of 16 registers
#include "policy/network_kernels.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
namespace avx512 {
inline constexpr std::size_t kVectorBytes = 64;
inline constexpr std::size_t kSums = 24;  // of 32 registers
#include "policy/network_kernels.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

struct Isa {
  const char* name;
  std::size_t lanes;
  void (*evaluate)(const PackedNetwork&, const float*, std::size_t, float*);
};

/// Instruction sets of this machine, the best first.
std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
#ifdef TIERALLOC_X86_VARIANTS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.push_back({"avx512", avx512::kLanes, avx512::evaluate});
  }
  if (avx2) isas.push_back({"avx2", avx2::kLanes, avx2::evaluate});
#endif
  isas.push_back({plain::kName, plain::kLanes, plain::evaluate});
  return isas;
}

template <typename Expected, typename Got>
[[noreturn]] void refuse(const std::string& field, const char* problem, const Expected& expected,
                         const Got& got) {
  std::ostringstream message;
  message << field << ": " << problem << "; expected " << expected << ", got " << got;
  throw std::invalid_argument(message.str());
}

void check_count(const char* field, std::uint32_t count, std::uint32_t min) {
  if (count < min) refuse(field, "too small", "at least " + std::to_string(min), count);
}

void check_values(const char* field, const std::vector<float>& values, std::uint64_t rows,
                  std::uint64_t columns) {
  if (values.size() != rows * columns) {
    const std::string shape = std::to_string(rows) + " x " + std::to_string(columns);
    refuse(field, "wrong number of values", std::to_string(rows * columns) + " (" + shape + ")",
           values.size());
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    refuse(std::string(field) + "[" + std::to_string(i) + "]", "not finite", "a finite number",
           values[i]);
  }
}

void check(const NetworkWeights& weights) {
  check_count("features", weights.features, 2);
  check_count("tables", weights.tables, 1);
  check_count("embedding_dim", weights.embedding_dim, 1);
  check_count("first", weights.first, 1);
  check_count("second", weights.second, 1);
  check_count("outputs", weights.outputs, 1);
  if (!std::isfinite(weights.bound) || weights.bound <= 0) {
    refuse("bound", "invalid", "a finite number above 0", weights.bound);
  }
  const std::uint64_t inputs = weights.features - 1;
  check_values("mean", weights.mean, 1, inputs);
  check_values("scale", weights.scale, 1, inputs);
  check_values("embedding", weights.embedding, weights.tables, weights.embedding_dim);
  check_values("w1", weights.w1, weights.first, inputs + weights.embedding_dim);
  check_values("b1", weights.b1, 1, weights.first);
  check_values("w2", weights.w2, weights.second, weights.first);
  check_values("b2", weights.b2, 1, weights.second);
  check_values("w3", weights.w3, weights.outputs, weights.second);
  check_values("b3", weights.b3, 1, weights.outputs);
}

class NativeNetwork final : public Network {
 public:
  NativeNetwork(const NetworkWeights& weights, const Isa& isa) : isa_(isa) {
    net_.features = weights.features;
    net_.outputs = weights.outputs;
    net_.tables = weights.tables;
    net_.bound = weights.bound;
    pack_inputs(weights);
    pack_first(weights);
    pack_layer(1, weights.w2, weights.b2, weights.second);
    pack_layer(2, weights.w3, weights.b3, weights.outputs);
  }

  std::uint32_t features() const override { return static_cast<std::uint32_t>(net_.features); }
  std::uint32_t outputs() const override { return static_cast<std::uint32_t>(net_.outputs); }
  const char* kind() const override { return isa_.name; }
  std::size_t bytes() const override { return sizeof *this + bytes_; }

  void evaluate(const float* features, std::size_t rows, float* probabilities) override {
    isa_.evaluate(net_, features, rows, probabilities);
  }

 private:
  static constexpr std::align_val_t kAlignment{kCacheLine};
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, kAlignment); }
  };

  std::size_t pad(std::size_t width) const { return round_up(width, isa_.lanes); }

  /// Allocates zeros.
  float* allocate(std::size_t count) {
    memory_.emplace_back(new (kAlignment) float[count]());
    bytes_ += count * sizeof(float);
    return memory_.back().get();
  }

  float* allocate_copy(const std::vector<float>& values) {
    float* copy = allocate(pad(values.size()));
    std::memcpy(copy, values.data(), values.size() * sizeof(float));
    return copy;
  }

  /// Transposes the first `inputs` columns of (outputs, columns) to (inputs, width).
  float* allocate_transposed(const std::vector<float>& weights, std::size_t outputs,
                             std::size_t inputs) {
    const std::size_t columns = weights.size() / outputs;
    const std::size_t width = pad(outputs);
    float* transposed = allocate(inputs * width);
    for (std::size_t o = 0; o < outputs; ++o) {
      for (std::size_t i = 0; i < inputs; ++i) {
        transposed[i * width + o] = weights[o * columns + i];
      }
    }
    return transposed;
  }

  void pack_inputs(const NetworkWeights& weights) {
    net_.input_width = pad(weights.features - 1);
    net_.mean = allocate_copy(weights.mean);
    net_.scale = allocate_copy(weights.scale);
    net_.spare = allocate(net_.input_width);
    net_.x = allocate(kBlockRows * net_.input_width);
  }

  void pack_first(const NetworkWeights& weights) {
    Layer& layer = net_.layers[0];
    layer.inputs = weights.features - 1;
    layer.width = pad(weights.first);
    layer.in = net_.x;
    layer.in_stride = net_.input_width;
    layer.weights = allocate_transposed(weights.w1, weights.first, layer.inputs);
    layer.out = allocate(kBlockRows * layer.width);
    layer.bias = layer.out;
    layer.bias_stride = layer.width;
    net_.table_bias = allocate_table_bias(weights, layer.width);
  }

  float* allocate_table_bias(const NetworkWeights& weights, std::size_t width) {
    const std::size_t inputs = weights.features - 1;
    const std::size_t dim = weights.embedding_dim;
    float* biases = allocate(weights.tables * width);
    for (std::size_t table = 0; table < weights.tables; ++table) {
      for (std::size_t o = 0; o < weights.first; ++o) {
        const float* row = &weights.w1[o * (inputs + dim) + inputs];
        double sum = weights.b1[o];
        for (std::size_t e = 0; e < dim; ++e) {
          sum += double{row[e]} * double{weights.embedding[table * dim + e]};
        }
        biases[table * width + o] = static_cast<float>(sum);
      }
    }
    return biases;
  }

  void pack_layer(std::size_t number, const std::vector<float>& weights,
                  const std::vector<float>& bias, std::size_t outputs) {
    const Layer& before = net_.layers[number - 1];
    Layer& layer = net_.layers[number];
    layer.inputs = weights.size() / outputs;
    layer.width = pad(outputs);
    layer.in = before.out;
    layer.in_stride = before.width;
    layer.weights = allocate_transposed(weights, outputs, layer.inputs);
    layer.bias = allocate_copy(bias);
    layer.bias_stride = 0;
    layer.out = allocate(kBlockRows * layer.width);
  }

  const Isa isa_;
  PackedNetwork net_{};
  std::vector<std::unique_ptr<float[], Free>> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<Network> make_native_network(const NetworkWeights& weights) {
  return make_native_network(weights, native_network_kinds().front());
}

std::unique_ptr<Network> make_native_network(const NetworkWeights& weights, std::string_view kind) {
  check(weights);
  std::string known;
  for (const Isa& isa : supported_isas()) {
    if (isa.name == kind) return std::make_unique<NativeNetwork>(weights, isa);
    known += (known.empty() ? "" : ", ") + std::string(isa.name);
  }
  refuse("kind", "not supported by this machine", "one of " + known, kind);
}

std::vector<std::string_view> native_network_kinds() {
  std::vector<std::string_view> kinds;
  for (const Isa& isa : supported_isas()) kinds.emplace_back(isa.name);
  return kinds;
}

}  // namespace tieralloc

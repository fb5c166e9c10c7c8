// operators.cpp: lookups as operators of torch. The schemas are those of
// tieralloc/nn/_operators.py.
#include "nn/native/operators.hpp"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tieralloc::native {
namespace {

struct Attached {
  std::shared_ptr<Store> store;
  std::unordered_map<std::string, const Table*> tables;
};

std::shared_mutex attached_mutex;
std::unordered_map<std::string, std::shared_ptr<const Attached>> attached;

std::shared_ptr<const Attached> find_store(const std::string& name) {
  const std::shared_lock lock(attached_mutex);
  const auto found = attached.find(name);
  TORCH_CHECK(
      found != attached.end(), "store '", name,
      "': not attached; expected a call of tieralloc::native::attach before the model runs");
  return found->second;
}

/// Whether rows can be pooled or copied into results of a type.
bool fits(DType rows, DType result) {
  if (rows == result) return !is_quantised(rows) && rows != DType::bytes;
  if (rows == DType::float64 || rows == DType::bytes) return false;
  return result == DType::float32 || (result == DType::float16 && is_quantised(rows)) ||
         (result == DType::bfloat16 && block_scales(rows).block > 0);
}

DType dtype_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return DType::float32;
    case at::kHalf:
      return DType::float16;
    case at::kBFloat16:
      return DType::bfloat16;
    case at::kDouble:
      return DType::float64;
    default:
      TORCH_CHECK(false, "dtype: expected float32, float16, bfloat16 or float64, got ", dtype);
  }
}

Mode mode_of(const std::string& mode) {
  if (mode == "sum") return Mode::sum;
  if (mode == "mean") return Mode::mean;
  TORCH_CHECK(mode == "max", "mode: expected sum, mean or max, got ", mode);
  return Mode::max;
}

/// The calls of an operator, with the memory that they refer to.
class Calls {
 public:
  Calls(const Attached& attached, const std::vector<std::string>& tables, at::IntArrayRef dims,
        at::IntArrayRef paddings, DType dtype)
      : attached_(attached), dtype_(dtype) {
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const auto found = attached.tables.find(tables[i]);
      TORCH_CHECK(found != attached.tables.end() && found->second->layout.dim == dims[i], "table '",
                  tables[i], "': the graph expects rows of ", dims[i],
                  " elements in the attached store, which has no such table");
      TORCH_CHECK(fits(found->second->layout.dtype, dtype), "table '", tables[i],
                  "': its rows have another type than the graph expects");
      segments_.push_back({found->second, paddings[i]});
    }
  }

  const std::vector<TableSegment>& segments() const { return segments_; }

  Integers integers(const at::Tensor& tensor) {
    TORCH_CHECK(tensor.scalar_type() == at::kLong || tensor.scalar_type() == at::kInt,
                "indices, offsets: expected int32 or int64, got ", tensor.scalar_type());
    kept_.push_back(tensor.contiguous());
    const at::Tensor& dense = kept_.back();
    static const std::int64_t none = 0;  // no data would mean that there are no offsets
    return {dense.numel() > 0 ? dense.data_ptr() : &none, static_cast<std::size_t>(dense.numel()),
            dense.scalar_type() == at::kLong};
  }

  const void* weights(const at::Tensor& tensor, std::int64_t expected) {
    const at::ScalarType wanted = dtype_ == DType::float64 ? at::kDouble : at::kFloat;
    TORCH_CHECK(tensor.scalar_type() == wanted && tensor.numel() == expected,
                "per_sample_weights: expected ", expected, " of ", wanted, ", got ", tensor.numel(),
                " of ", tensor.scalar_type());
    kept_.push_back(tensor.contiguous());
    return kept_.back().data_ptr();
  }

  /// Adds a call on the segments first ... first + n - 1; the rest of `call` is set.
  void add(BagCall call, std::size_t first, std::size_t n) {
    call.segments = std::span<const TableSegment>(segments_).subspan(first, n);
    call.out_dtype = dtype_;
    calls_.push_back(call);
  }

  /// Serves the calls into the columns of `result`.
  void serve(const at::Tensor& result) {
    const std::size_t stride = result.numel() == 0 ? 0 : result.stride(0) * result.element_size();
    auto* out = static_cast<std::byte*>(result.data_ptr());
    for (BagCall& call : calls_) {
      call.out = out;
      call.out_stride = stride;
      for (const TableSegment& segment : call.segments) {
        out += segment.table->layout.dim * size_of(dtype_);
      }
    }
    attached_.store->embedding_bags(calls_, Accesses::recorded);
  }

 private:
  const Attached& attached_;
  DType dtype_;
  std::vector<TableSegment> segments_;
  std::vector<at::Tensor> kept_;
  std::vector<BagCall> calls_;
};

at::Tensor embedding(const at::Tensor& indices, std::string store, std::vector<std::string> tables,
                     at::IntArrayRef dims, at::ScalarType dtype, bool /*shares_request*/) {
  const auto owner = find_store(store);
  Calls calls(*owner, tables, dims, {-1}, dtype_of(dtype));
  BagCall call;
  call.mode = Mode::copy;
  call.indices = calls.integers(indices);
  call.bags = call.indices.size;
  calls.add(call, 0, 1);
  at::Tensor rows = at::empty({indices.numel(), dims[0]}, at::dtype(dtype));
  calls.serve(rows);
  std::vector<std::int64_t> shape = indices.sizes().vec();
  shape.push_back(dims[0]);
  return rows.view(shape);
}

at::Tensor embedding_bag(at::TensorList indices,
                         const c10::List<std::optional<at::Tensor>>& offsets,
                         const c10::List<std::optional<at::Tensor>>& weights, std::string store,
                         std::vector<std::string> tables, at::IntArrayRef dims,
                         at::IntArrayRef paddings, std::string mode, bool include_last_offset,
                         at::ScalarType dtype, bool /*shares_request*/) {
  const auto owner = find_store(store);
  Calls calls(*owner, tables, dims, paddings, dtype_of(dtype));
  const std::size_t tables_per_part = indices.size() == 1 ? tables.size() : 1;
  TORCH_CHECK(indices.size() * tables_per_part == tables.size(), "indices: expected 1 or ",
              tables.size(), " tensors, got ", indices.size());
  std::int64_t bags = -1;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const at::Tensor& part = indices[i];
    BagCall call;
    call.mode = mode_of(mode);
    call.indices = calls.integers(part);
    const std::optional<at::Tensor> starts = offsets[i];
    std::int64_t part_bags = part.size(0);
    if (starts.has_value()) {
      part_bags = starts->numel() - (include_last_offset ? 1 : 0);
      call.offsets = calls.integers(*starts);
    } else {
      call.offsets = calls.integers(at::arange(part.size(0) + 1, at::kLong) * part.size(1));
    }
    const auto n = static_cast<std::int64_t>(tables_per_part);
    TORCH_CHECK(part_bags >= 0 && part_bags % n == 0 && (bags < 0 || part_bags / n == bags),
                "offsets: expected as many bags for each table, got ", part_bags);
    bags = part_bags / n;
    call.bags = static_cast<std::size_t>(bags);
    const std::optional<at::Tensor> factors = weights[i];
    if (factors.has_value()) call.weights = calls.weights(*factors, part.numel());
    calls.add(call, i * tables_per_part, tables_per_part);
  }
  std::int64_t columns = 0;
  for (const std::int64_t dim : dims) columns += dim;
  at::Tensor result = at::empty({bags, columns}, at::dtype(dtype));
  calls.serve(result);
  return result;
}

}  // namespace

void attach(const std::string& name, std::shared_ptr<Store> store) {
  auto entry = std::make_shared<Attached>();
  for (const Table* table : store->tables()) entry->tables[table->layout.name] = table;
  entry->store = std::move(store);
  const std::unique_lock lock(attached_mutex);
  attached[name] = std::move(entry);
}

}  // namespace tieralloc::native

TORCH_LIBRARY(tieralloc, library) {
  library.def(
      "embedding(Tensor indices, *, str store, str[] tables, int[] dims, ScalarType dtype, "
      "bool shares_request=False) -> Tensor");
  library.def(
      "embedding_bag(Tensor[] indices, Tensor?[] offsets, Tensor?[] weights, *, str store, "
      "str[] tables, int[] dims, int[] paddings, str mode, bool include_last_offset, "
      "ScalarType dtype, bool shares_request=False) -> Tensor");
}

TORCH_LIBRARY_IMPL(tieralloc, CPU, library) {
  library.impl("embedding", tieralloc::native::embedding);
  library.impl("embedding_bag", tieralloc::native::embedding_bag);
}

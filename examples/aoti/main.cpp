// main.cpp: serves a model of AOTInductor whose rows are in a store, without Python.
//
//   ./serve MODEL.pt2 ROWS.tier
//
// export.py makes both files; the store has the name of its file in the model's graph.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <ATen/ATen.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "nn/native/operators.hpp"
#include "slow_tier/file/file_pool.hpp"

namespace {

/// 16 samples: a bag of 4 items each, and a user. export.py computes the same.
std::vector<at::Tensor> make_request(std::int64_t seed) {
  const at::Tensor items = (at::arange(64) * 7919 + seed) % 1000;
  const at::Tensor offsets = at::arange(0, 64, 4);
  const at::Tensor users = (at::arange(16) * 31 + seed) % 500;
  return {items, offsets, users};
}

std::shared_ptr<tieralloc::Store> open_store(const std::string& path) {
  tieralloc::StoreOptions options;
  options.budget.bytes = 64 << 10;
  auto file = tieralloc::FilePool::open_as(tieralloc::FileMode::read, path, {});
  return std::make_shared<tieralloc::Store>(std::move(file), options);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: %s MODEL.pt2 ROWS.tier\n", argv[0]), 2;
  const auto store = open_store(argv[2]);
  tieralloc::native::attach(std::filesystem::path(argv[2]).filename(), store);
  torch::inductor::AOTIModelPackageLoader model(argv[1]);

  const at::Tensor scores = model.run(make_request(0)).at(0);
  for (int sample = 0; sample < 16; ++sample) {
    std::printf("%.9g\n", scores[sample].item<double>());
  }
  constexpr int kRequests = 1000;
  const auto began = std::chrono::steady_clock::now();
  for (int request = 1; request <= kRequests; ++request) model.run(make_request(request));
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
  std::fprintf(stderr, "%.0f us a request\n", took.count() / kRequests);
}

// placement.hpp: memory put on a NUMA node, and where it came to lie.
//
// Regions (memory.hpp) that a thread makes while a NodeScope of its lives are bound to the scope's
// node before anybody touches them, touched, and checked: what lies elsewhere is counted. Scopes of
// different threads know nothing of each other; a scope is used by the thread that made it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/statistics.hpp"

namespace tieralloc {

struct NodeRequest {
  int node = -1;        ///< -1: wherever the kernel likes
  bool prefer = false;  ///< let pages that find no room go elsewhere, and count them
  bool strict = true;   ///< a kernel that refuses to bind is an error; else go on unbound
};

struct Placement {
  int node = -1;  ///< asked for
  bool prefer = false;
  std::uint64_t pages = 0;      ///< of 4 KiB, touched and looked for
  std::uint64_t elsewhere = 0;  ///< of these, those on another node
  std::string refused;          ///< why memory is not bound; empty where it is, or need not be
  std::string unverified;       ///< why nobody knows where pages lie; empty where it is known

  void add(const Placement& other);
};

/// A group of its values; nothing unless a node was asked for.
StatisticValue statistic_of(const Placement& placement);

class NodeScope {
 public:
  explicit NodeScope(const NodeRequest& request);
  ~NodeScope();
  NodeScope(const NodeScope&) = delete;

  /// The innermost one of this thread; null: none.
  static NodeScope* current();

  /// Binds, touches and looks for memory that was just mapped. Throws SystemFailure where binding
  /// is refused and the request is strict, and MemoryShortage where there is not enough of it.
  void place(std::byte* data, std::size_t size, const char* purpose);

  const Placement& placement() const { return placement_; }

 private:
  void bind(std::byte* data, std::size_t size);
  void touch(std::byte* data, std::size_t size, const char* purpose) const;
  void look_for(const std::byte* data, std::size_t size);

  const NodeRequest request_;
  Placement placement_;
  NodeScope* const outer_;
};

}  // namespace tieralloc

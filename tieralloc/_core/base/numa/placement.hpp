// placement.hpp: places memory on a NUMA node, and verifies its place.
//
// Regions (memory.hpp) that a thread creates while it has a NodeScope are bound to the node of the
// scope, touched, and verified: pages on other nodes are counted. A scope belongs to the thread
// that created it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tieralloc {

struct NodeRequest {
  int node = -1;        ///< -1: any
  bool prefer = false;  ///< allow pages on other nodes if this one is full
  bool strict = true;   ///< an error if the kernel refuses to bind; else unbound
};

struct Placement {
  int node = -1;  ///< requested
  bool prefer = false;
  std::uint64_t pages = 0;      ///< of 4 KiB, touched and verified
  std::uint64_t elsewhere = 0;  ///< of these on another node
  std::string refused;          ///< reason why memory is not bound; empty if it is
  std::string unverified;       ///< reason why the pages' nodes are unknown; empty if known

  void add(const Placement& other);
};

class NodeScope {
 public:
  explicit NodeScope(const NodeRequest& request);
  ~NodeScope();
  NodeScope(const NodeScope&) = delete;

  /// The innermost scope of this thread; null: none.
  static NodeScope* current();

  /// Binds, touches and verifies memory that was just mapped. Throws SystemFailure if the kernel
  /// refuses a strict request, and MemoryShortage if memory is short.
  void place(std::byte* data, std::size_t size, const char* purpose);

  const Placement& placement() const { return placement_; }

 private:
  void bind(std::byte* data, std::size_t size);
  void touch(std::byte* data, std::size_t size, const char* purpose) const;
  void verify(const std::byte* data, std::size_t size);

  const NodeRequest request_;
  Placement placement_;
  NodeScope* const outer_;
};

}  // namespace tieralloc

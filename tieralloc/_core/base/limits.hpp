// limits.hpp: every maximum that a user of the core or a file format can meet.
//
// Limits of one algorithm alone (batch sizes, thresholds) stand with the algorithm.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.hpp"

namespace tieralloc {

// Tables.
inline constexpr std::size_t kMaxTableNameBytes = 191;  ///< UTF-8, without NUL
inline constexpr std::uint64_t kMaxTableRows = std::uint64_t{1} << 48;
inline constexpr std::uint32_t kMaxDim = std::uint32_t{1} << 20;
inline constexpr std::uint32_t kMaxStride = kMaxDim * 8;  ///< bytes per row of float64
/// Half of the largest file offset, so that the sum of an offset and a size cannot overflow.
inline constexpr std::uint64_t kMaxTableBytes = std::uint64_t{1} << 62;

// The slow tier's file.
inline constexpr std::size_t kMaxFileTables = 4095;
inline constexpr unsigned kMaxQueueDepth = 4096;  ///< reads of one call in flight
/// Of the pread engine. More threads make no device faster.
inline constexpr unsigned kMaxReadThreads = 32;
/// Of one device read of several rows. Longer reads gain nothing and block shorter ones.
inline constexpr std::uint64_t kMaxReadBytes = 64 << 10;

// The fast tier. An index entry holds a slot + 1 in 30 bits beside two flags.
inline constexpr Slot kMaxSlots = (Slot{1} << 30) - 2;

/// Of one segment of the redo log; there are two. A larger update takes a segment of its own size.
inline constexpr std::uint64_t kLogSegmentBytes = std::uint64_t{64} << 20;

// Threads.
inline constexpr std::uint32_t kMaxReaders = 64;  ///< calls inside a store; further calls wait
inline constexpr int kMaxCpus = 8192;
/// More threads make no device faster.
inline constexpr unsigned kMaxPrefetchThreads = 32;
inline constexpr std::size_t kMaxNodes = 1024;  ///< NUMA nodes that a Linux kernel can have

// Accesses.
inline constexpr std::size_t kMaxRingWords = std::size_t{1} << 28;  ///< of one thread's access ring

}  // namespace tieralloc

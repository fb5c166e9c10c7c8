// crc32c.cpp: three streams at once, because one instruction waits for the one before it.
//
//   split a block into three lanes; crc of each lane from 0
//   crc(a b c) = shift(shift(crc(a)) ^ crc(b)) ^ crc(c), where shift appends a lane of zeros
#include "base/crc32c.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace tieralloc {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78u;  // reflected
constexpr std::size_t kLaneBytes = 1360;            // three lanes fill a page up to its footer

using ByteTable = std::array<std::uint32_t, 256>;

constexpr ByteTable make_table() {
  ByteTable table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}

constexpr ByteTable kTable = make_table();

std::uint32_t extend_by_table(std::uint32_t crc, const std::byte* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<std::uint32_t>(data[i])) & 0xFF];
  }
  return crc;
}

#if defined(__x86_64__) || defined(__ARM_FEATURE_CRC32)

#if defined(__x86_64__)
#define TIERALLOC_CRC_TARGET __attribute__((target("sse4.2")))
bool has_instruction() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
TIERALLOC_CRC_TARGET std::uint32_t step(std::uint32_t crc, std::uint64_t word) {
  return static_cast<std::uint32_t>(_mm_crc32_u64(crc, word));
}
#else
#define TIERALLOC_CRC_TARGET
bool has_instruction() {
  return true;
}
std::uint32_t step(std::uint32_t crc, std::uint64_t word) {
  return __crc32cd(crc, word);
}
#endif

std::uint64_t word_at(const std::byte* data) {
  std::uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return word;
}

/// Appends a lane of zeros to a checksum, byte by byte of the checksum.
class Shift {
 public:
  Shift() {
    static constexpr std::array<std::byte, kLaneBytes> kZeros{};
    std::array<std::uint32_t, 32> of_bit;
    for (std::size_t bit = 0; bit < 32; ++bit) {
      of_bit[bit] = extend_by_table(std::uint32_t{1} << bit, kZeros.data(), kZeros.size());
    }
    for (std::size_t byte = 0; byte < 4; ++byte) {
      for (std::size_t value = 0; value < 256; ++value) {
        std::uint32_t crc = 0;
        for (std::size_t bit = 0; bit < 8; ++bit) {
          if ((value >> bit & 1) != 0) crc ^= of_bit[byte * 8 + bit];
        }
        tables_[byte][value] = crc;
      }
    }
  }

  std::uint32_t operator()(std::uint32_t crc) const {
    return tables_[0][crc & 0xFF] ^ tables_[1][crc >> 8 & 0xFF] ^ tables_[2][crc >> 16 & 0xFF] ^
           tables_[3][crc >> 24];
  }

 private:
  std::array<ByteTable, 4> tables_;
};

TIERALLOC_CRC_TARGET std::uint32_t extend(std::uint32_t crc, const std::byte* data,
                                          std::size_t size) {
  static const Shift shift;
  for (; size >= 3 * kLaneBytes; data += 3 * kLaneBytes, size -= 3 * kLaneBytes) {
    std::uint32_t second = 0;
    std::uint32_t third = 0;
    for (const std::byte *at = data, *end = data + kLaneBytes; at < end; at += 8) {
      crc = step(crc, word_at(at));
      second = step(second, word_at(at + kLaneBytes));
      third = step(third, word_at(at + 2 * kLaneBytes));
    }
    crc = shift(shift(crc) ^ second) ^ third;
  }
  for (; size >= 8; data += 8, size -= 8) crc = step(crc, word_at(data));
  return extend_by_table(crc, data, size);
}

#else

bool has_instruction() {
  return false;
}
std::uint32_t extend(std::uint32_t crc, const std::byte* data, std::size_t size) {
  return extend_by_table(crc, data, size);
}

#endif

}  // namespace

std::uint32_t crc32c(const void* data, std::size_t size) {
  static const bool by_instruction = has_instruction();
  if (!by_instruction) return crc32c_by_table(data, size);
  return ~extend(~std::uint32_t{0}, static_cast<const std::byte*>(data), size);
}

std::uint32_t crc32c_by_table(const void* data, std::size_t size) {
  return ~extend_by_table(~std::uint32_t{0}, static_cast<const std::byte*>(data), size);
}

}  // namespace tieralloc

// dtype.hpp: the element types of rows, the bytes of a row, and conversions between 16-bit types
// and float.
//
// A quantised row has a float16 scale, a float16 bias, and an unsigned integer q per element, of 8
// bits, or of 4 bits, the lower half of a byte first. The element's value is scale * q + bias. This
// is the layout of FBGEMM's IntNBitTableBatchedEmbeddingBagsCodegen on a CPU, with row_alignment=1.
//
// A row of float8 (e4m3fn of OCP: no infinity) has its elements, and then a scale per block of 32,
// 64 or 128 elements: a float32, or a power of 2 as an exponent of 8 bits, biased by 127 (ue8m0;
// 255 is NaN). The element's value is scale * element.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tieralloc {

enum class DType : std::uint32_t {
  float32 = 1,
  float16 = 2,
  bfloat16 = 3,
  float64 = 4,
  int8 = 5,   ///< quantised
  int4 = 6,   ///< quantised
  bytes = 7,  ///< rows that the store does not interpret; `dim` is their size
  // float8, by the type of its scales, and the elements of a block.
  e4m3_ue8m0_32 = 8,
  e4m3_ue8m0_64 = 9,
  e4m3_ue8m0_128 = 10,
  e4m3_float32_32 = 11,
  e4m3_float32_64 = 12,
  e4m3_float32_128 = 13,
};
inline constexpr std::uint32_t kNumDTypes = 13;  ///< numbers 1 and up

/// The scales of a row of float8.
struct BlockScales {
  std::uint32_t block = 0;  ///< elements per scale; 0: the type has no such scales
  std::uint32_t bytes = 0;  ///< 1: ue8m0, 4: float32
};

constexpr BlockScales block_scales(DType dtype) {
  const auto number = static_cast<std::uint32_t>(dtype);
  constexpr auto first = static_cast<std::uint32_t>(DType::e4m3_ue8m0_32);
  if (number < first) return {};
  return {32u << (number - first) % 3, (number - first) / 3 == 0 ? 1u : 4u};
}

/// Of an element of a result, which a quantised type cannot be.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    default:
      return 1;
  }
}

/// Whether rows have a scale and a bias: floats can be quantised to such rows.
constexpr bool is_affine(DType dtype) {
  return dtype == DType::int8 || dtype == DType::int4;
}

/// Whether lookups decode the rows, to float32 by default.
constexpr bool is_quantised(DType dtype) {
  return is_affine(dtype) || block_scales(dtype).block > 0;
}

/// Scale and bias of a row of int8 or int4.
inline constexpr std::uint32_t kAffineBytes = 4;

constexpr std::uint32_t row_bytes_of(std::uint32_t dim, DType dtype) {
  switch (dtype) {
    case DType::int8:
      return kAffineBytes + dim;
    case DType::int4:
      return kAffineBytes + (dim + 1) / 2;
    default:
      break;
  }
  const auto [block, bytes] = block_scales(dtype);
  if (block > 0) return dim + (dim + block - 1) / block * bytes;
  return dim * static_cast<std::uint32_t>(size_of(dtype));
}

struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};
struct E4M3 {
  std::uint8_t bits;
};

inline float to_float(float value) {
  return value;
}
inline double to_float(double value) {
  return value;
}

inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

inline float to_float(Half value) {
  // Scaling by 2^112 rebiases the exponent and normalises subnormals in one multiplication.
  const std::uint32_t magnitude = (value.bits & 0x7FFFu) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x0F800000u ? 0x7F800000u : 0u;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

inline float to_float(E4M3 value) {
  // As for Half: by 2^120.
  const std::uint32_t magnitude = (value.bits & 0x7Fu) << 20;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p120f;
  const std::uint32_t special = (value.bits & 0x7Fu) == 0x7Fu ? 0x7FC00000u : 0u;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x80u) << 24;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

/// A scale of type ue8m0.
inline float exponent_to_float(std::uint8_t bits) {
  if (bits == 0) return 0x1p-127f;
  const std::uint32_t special = bits == 255 ? 0x7FC00000u : 0u;
  return std::bit_cast<float>(std::uint32_t{bits} << 23 | special);
}

template <typename T>
T from_float(float value) {
  return static_cast<T>(value);
}
template <typename T>
T from_float(double value) {
  return static_cast<T>(value);
}

/// Round to nearest, ties to even; NaN stays NaN.
template <>
inline BFloat16 from_float<BFloat16>(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

/// Round to nearest, ties to even; overflow becomes infinity.
template <>
inline Half from_float<Half>(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};
  if (magnitude < 0x38800000u) {
    // Adding 0.5 aligns the subnormal's bits with the end of the mantissa; the addition rounds.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3F000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - 0x38000000u;
  return {static_cast<std::uint16_t>(sign | (rounded >> 13))};
}

}  // namespace tieralloc

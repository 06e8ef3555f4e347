// Element types of weights and buffers, and the one place where they are converted.
//
// bfloat16 is the upper half of a binary32; conversion to it rounds to nearest, ties to even, and keeps
// NaN a (quiet) NaN. All functions are pure and safe on any thread.
#ifndef MAMBAD_KERNELS_BASE_DTYPE_H_
#define MAMBAD_KERNELS_BASE_DTYPE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mambad::kernels {

enum class DType : std::uint8_t { kF32, kBf16, kF16 };

constexpr std::size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

constexpr std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
  }
  return "unknown";
}

constexpr float Bf16ToFloat(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

constexpr std::uint16_t FloatToBf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The binary32 that a bf16 store and load would give.
constexpr float RoundToBf16(float value) { return Bf16ToFloat(FloatToBf16(value)); }

// Exact: every binary16, subnormals included, is a binary32.
constexpr float F16ToFloat(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

// Element `index` of a host array of `dtype`, widened.
inline float LoadAsFloat(const void* data, DType dtype, std::size_t index) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kBf16:
      return Bf16ToFloat(static_cast<const std::uint16_t*>(data)[index]);
    case DType::kF16:
      return F16ToFloat(static_cast<const std::uint16_t*>(data)[index]);
  }
  return 0.0f;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_DTYPE_H_

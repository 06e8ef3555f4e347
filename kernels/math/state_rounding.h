// How a state is rounded to bf16: up or down at random, with the odds that make the expectation exact. A
// rounding to nearest would lose every change that is small beside the state; this one keeps it on average.
//
// The random bits are a function of the slot's seed, the position that the state stands at, layer, channel
// and n. One Philox block serves a quad of channels at n and n + 4: word q is channel q's, its low half for
// n % 8 < 4, its high half for the other.
#ifndef MAMBAD_KERNELS_MATH_STATE_ROUNDING_H_
#define MAMBAD_KERNELS_MATH_STATE_ROUNDING_H_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/math/lanes.h"
#include "kernels/math/philox.h"

namespace mambad::kernels {

inline constexpr int kRoundingQuad = 4;
// Distinct blocks of a quad; n / 8 * 4 + n % 4 stays below for n < 256.
inline constexpr std::uint32_t kRoundingBlocks = 128;

MAMBAD_LANE std::uint32_t RoundingBlockOf(std::uint32_t n) { return n / 8 * 4 + n % 4; }
// 0 or 16: where in a word n's bits begin.
MAMBAD_LANE std::uint32_t RoundingShiftOf(std::uint32_t n) { return n % 8 / 4 * 16; }

MAMBAD_LANE PhiloxWords RoundingWords(const RoundingKey& key, std::uint32_t layer, std::uint32_t quad,
                                      std::uint32_t block) {
  return Philox4x32({{static_cast<std::uint32_t>(key.position),
                      static_cast<std::uint32_t>(key.position >> 32), layer, quad * kRoundingBlocks + block}},
                    static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32));
}

// `bits` below 2^16. The value lies between two neighbours of bf16, and its lower half says how far; the
// carry out of it is the rounding away from zero. Infinities and NaN stay what they are, or become infinite.
MAMBAD_LANE std::uint16_t RoundToBf16AtRandom(float value, std::uint32_t bits) {
  const auto word = static_cast<std::uint32_t>(F32x1::Bits(value));
  const bool finite = (word & 0x7f800000u) != 0x7f800000u;
  return static_cast<std::uint16_t>((word + (finite ? bits : 0u)) >> 16);
}

MAMBAD_LANE float FromBf16(std::uint16_t bits) {
  return F32x1::FromBits(static_cast<std::int32_t>(std::uint32_t{bits} << 16));
}

// For one element alone. `key.position` is the position that the state stands at when it is stored.
MAMBAD_LANE std::uint16_t RoundStateElement(const RoundingKey& key, std::uint32_t layer,
                                            std::uint32_t channel, std::uint32_t n, float value) {
  const PhiloxWords words = RoundingWords(key, layer, channel / kRoundingQuad, RoundingBlockOf(n));
  // No index: the words stay in registers.
  const std::uint32_t low = channel % 2 == 0 ? words.w[0] : words.w[1];
  const std::uint32_t high = channel % 2 == 0 ? words.w[2] : words.w[3];
  const std::uint32_t word = channel % kRoundingQuad < 2 ? low : high;
  return RoundToBf16AtRandom(value, word >> RoundingShiftOf(n) & 0xffffu);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_STATE_ROUNDING_H_

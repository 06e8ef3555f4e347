// A block of channels (channel_block.h) between its narrow form in a slot and fp32. Plain loops that every
// instruction set's compiler turns into its vectors; integer arithmetic, so all of them give the same bits.
#ifndef MAMBAD_KERNELS_MATH_NARROW_BLOCK_H_
#define MAMBAD_KERNELS_MATH_NARROW_BLOCK_H_

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels/math/channel_block.h"
#include "kernels/math/state_rounding.h"

namespace mambad::kernels {

inline constexpr int kRoundingGroup = 8;  // values of n that a draw serves

// The random bits of a block for n in [8 g, 8 g + 8).
struct alignas(64) RoundingBits {
  std::uint32_t word[4][kBlockChannels];  // [n % 4][channel]
};

// 64-bit lanes whose lower halves count; the upper ones may hold anything. MultiplyWide multiplies the lower
// halves, InterleaveLow and InterleaveHigh merge the lanes of the first, or second, halves of two vectors.
#if defined(__AVX512F__)
inline constexpr int kDrawLanes = 8;
typedef std::uint64_t DrawLanes __attribute__((vector_size(64)));
MAMBAD_LANE DrawLanes MultiplyWide(DrawLanes a, std::uint32_t factor) {
  // The form without a mask makes GCC 12 warn of its own header.
  return (DrawLanes)_mm512_maskz_mul_epu32(0xff, (__m512i)a, _mm512_set1_epi64(factor));
}
MAMBAD_LANE DrawLanes InterleaveLow(DrawLanes a, DrawLanes b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
MAMBAD_LANE DrawLanes InterleaveHigh(DrawLanes a, DrawLanes b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#elif defined(__AVX2__)
inline constexpr int kDrawLanes = 4;
typedef std::uint64_t DrawLanes __attribute__((vector_size(32)));
MAMBAD_LANE DrawLanes MultiplyWide(DrawLanes a, std::uint32_t factor) {
  return (DrawLanes)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(factor));
}
MAMBAD_LANE DrawLanes InterleaveLow(DrawLanes a, DrawLanes b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
MAMBAD_LANE DrawLanes InterleaveHigh(DrawLanes a, DrawLanes b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#else
inline constexpr int kDrawLanes = 2;
typedef std::uint64_t DrawLanes __attribute__((vector_size(16)));
MAMBAD_LANE DrawLanes MultiplyWide(DrawLanes a, std::uint32_t factor) {
#if defined(__SSE2__)
  return (DrawLanes)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(factor));
#else
  return (a & 0xffffffffu) * factor;
#endif
}
MAMBAD_LANE DrawLanes InterleaveLow(DrawLanes a, DrawLanes b) { return __builtin_shufflevector(a, b, 0, 2); }
MAMBAD_LANE DrawLanes InterleaveHigh(DrawLanes a, DrawLanes b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

// state_rounding.h's words of the block that begins at `channel`, all Philox blocks side by side.
MAMBAD_LANE void DrawRoundingBits(const RoundingKey& key, std::uint32_t layer, std::uint32_t channel,
                                  std::uint32_t group, RoundingBits& bits) {
  constexpr int kDraws = 16;  // (n % 4, quad)
  constexpr std::uint32_t kQuads = kBlockChannels / kRoundingQuad;
  constexpr int kVectors = kDraws / kDrawLanes;
  DrawLanes w0[kVectors], w1[kVectors], w2[kVectors], w3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    w0[v] = DrawLanes{} + key.position;
    w1[v] = DrawLanes{} + (key.position >> 32);
    w2[v] = DrawLanes{} + layer;
    DrawLanes place = {};
    for (int lane = 0; lane < kDrawLanes; ++lane) {
      const auto i = static_cast<std::uint32_t>(v * kDrawLanes + lane);
      place[lane] = (channel / kRoundingQuad + i % kQuads) * kRoundingBlocks + group * 4 + i / kQuads;
    }
    w3[v] = place;
  }
  auto key0 = static_cast<std::uint32_t>(key.seed);
  auto key1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int v = 0; v < kVectors; ++v) {
      const DrawLanes m0 = MultiplyWide(w0[v], kPhiloxFactor0);
      const DrawLanes m1 = MultiplyWide(w2[v], kPhiloxFactor1);
      w0[v] = m1 >> 32 ^ w1[v] ^ key0;
      w2[v] = m0 >> 32 ^ w3[v] ^ key1;
      w1[v] = m1;
      w3[v] = m0;
    }
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  std::uint32_t* to = &bits.word[0][0];
  for (int v = 0; v < kVectors; ++v) {  // a draw's four words side by side, draws in their order
    const DrawLanes first = (w0[v] & 0xffffffffu) | w1[v] << 32;
    const DrawLanes second = (w2[v] & 0xffffffffu) | w3[v] << 32;
    for (const DrawLanes& words : {InterleaveLow(first, second), InterleaveHigh(first, second)}) {
      std::memcpy(to, &words, sizeof(words));
      to += sizeof(words) / sizeof(*to);
    }
  }
}

// One n of a block, of which `width` channels exist; the others widen to 0.
MAMBAD_LANE void WidenRow(const std::uint16_t* from, int width, float* to) {
  if (width == kBlockChannels) {
    for (int i = 0; i < kBlockChannels; ++i) to[i] = FromBf16(from[i]);
    return;
  }
  for (int i = 0; i < kBlockChannels; ++i) to[i] = i < width ? FromBf16(from[i]) : 0.0f;
}

MAMBAD_LANE void RoundRow(const float* from, const RoundingBits& bits, std::uint32_t n, int width,
                          std::uint16_t* to) {
  const std::uint32_t* const words = bits.word[n % 4];
  const std::uint32_t shift = RoundingShiftOf(n);
  if (width < kBlockChannels) {
    for (int i = 0; i < width; ++i) to[i] = RoundToBf16AtRandom(from[i], words[i] >> shift & 0xffffu);
    return;
  }
  // The same, a vector at a time.
  constexpr int kWords = 2 * kDrawLanes;
  typedef std::uint32_t Words __attribute__((vector_size(4 * kWords)));
  typedef std::uint16_t Halves __attribute__((vector_size(2 * kWords)));
  for (int i = 0; i < kBlockChannels; i += kWords) {
    Words value, random;
    std::memcpy(&value, from + i, sizeof(value));
    std::memcpy(&random, words + i, sizeof(random));
    const Words finite = (Words)((value & 0x7f800000u) != 0x7f800000u) & 0xffffu;
    const Halves rounded = __builtin_convertvector((value + (random >> shift & finite)) >> 16, Halves);
    std::memcpy(to + i, &rounded, sizeof(rounded));
  }
}

// (N, kBlockChannels) floats, rows one after the other, from and to (N, D) of a slot.
MAMBAD_LANE void WidenBlock(const std::uint16_t* from, std::int64_t channels, std::int64_t channel,
                            std::int64_t state_size, float* to) {
  const auto width =
      static_cast<int>(channels - channel < kBlockChannels ? channels - channel : kBlockChannels);
  for (std::int64_t n = 0; n < state_size; ++n)
    WidenRow(from + n * channels + channel, width, to + n * kBlockChannels);
}

MAMBAD_LANE void RoundBlock(const float* from, const RoundingKey& key, std::uint32_t layer,
                            std::int64_t channels, std::int64_t channel, std::int64_t state_size,
                            std::uint16_t* to) {
  const auto width =
      static_cast<int>(channels - channel < kBlockChannels ? channels - channel : kBlockChannels);
  RoundingBits bits;
  for (std::int64_t n = 0; n < state_size; ++n) {
    if (n % kRoundingGroup == 0)
      DrawRoundingBits(key, layer, static_cast<std::uint32_t>(channel),
                       static_cast<std::uint32_t>(n / kRoundingGroup), bits);
    RoundRow(from + n * kBlockChannels, bits, static_cast<std::uint32_t>(n), width,
             to + n * channels + channel);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_NARROW_BLOCK_H_

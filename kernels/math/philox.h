// Philox4x32-10, a counter-based generator: the draw is a function of (key, counter), with no state to carry.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
#ifndef MAMBAD_KERNELS_MATH_PHILOX_H_
#define MAMBAD_KERNELS_MATH_PHILOX_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr int kPhiloxRounds = 10;
inline constexpr std::uint32_t kPhiloxFactor0 = 0xD2511F53u;
inline constexpr std::uint32_t kPhiloxFactor1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxStep0 = 0x9E3779B9u;
inline constexpr std::uint32_t kPhiloxStep1 = 0xBB67AE85u;

struct PhiloxWords {
  std::uint32_t w[4];
};

MAMBAD_LANE PhiloxWords Philox4x32(PhiloxWords counter, std::uint32_t key0, std::uint32_t key1) {
  PhiloxWords c = counter;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t m0 = std::uint64_t{kPhiloxFactor0} * c.w[0];
    const std::uint64_t m1 = std::uint64_t{kPhiloxFactor1} * c.w[2];
    c = {{static_cast<std::uint32_t>(m1 >> 32) ^ c.w[1] ^ key0, static_cast<std::uint32_t>(m1),
          static_cast<std::uint32_t>(m0 >> 32) ^ c.w[3] ^ key1, static_cast<std::uint32_t>(m0)}};
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  return c;
}

// The uniform draw in [0, 1), 53 bits, of one token of one candidate of one request.
MAMBAD_LANE double UniformDraw(std::uint64_t seed, std::uint64_t token_index, std::uint32_t candidate) {
  const PhiloxWords r = Philox4x32({{static_cast<std::uint32_t>(token_index),
                                     static_cast<std::uint32_t>(token_index >> 32), candidate, 0u}},
                                   static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  const std::uint64_t bits = (std::uint64_t{r.w[0]} << 21) | (r.w[1] >> 11);
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_PHILOX_H_

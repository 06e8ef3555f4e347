// Philox4x32-10, a counter-based generator: the draw is a function of (key, counter), with no state to carry.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
#ifndef MAMBAD_KERNELS_MATH_PHILOX_H_
#define MAMBAD_KERNELS_MATH_PHILOX_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

struct PhiloxWords {
  std::uint32_t w[4];
};

MAMBAD_LANE PhiloxWords Philox4x32(PhiloxWords counter, std::uint32_t key0, std::uint32_t key1) {
  PhiloxWords c = counter;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t m0 = std::uint64_t{0xD2511F53u} * c.w[0];
    const std::uint64_t m1 = std::uint64_t{0xCD9E8D57u} * c.w[2];
    c = {{static_cast<std::uint32_t>(m1 >> 32) ^ c.w[1] ^ key0, static_cast<std::uint32_t>(m1),
          static_cast<std::uint32_t>(m0 >> 32) ^ c.w[3] ^ key1, static_cast<std::uint32_t>(m0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
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

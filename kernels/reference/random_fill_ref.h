// Naive random_fill: Philox4x32-10 as its paper writes it, and bf16 by the nearest of the two neighbours.
#ifndef MAMBAD_KERNELS_REFERENCE_RANDOM_FILL_REF_H_
#define MAMBAD_KERNELS_REFERENCE_RANDOM_FILL_REF_H_

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace mambad::kernels::reference {

inline std::array<std::uint32_t, 4> Philox(std::array<std::uint32_t, 4> x, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * x[0], b = 0xCD9E8D57ull * x[2];
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    x = {low(b >> 32) ^ x[1] ^ key[0], low(b), low(a >> 32) ^ x[3] ^ key[1], low(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return x;
}

inline std::uint16_t NearestBf16(float value) {
  const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  const auto above = static_cast<std::uint16_t>(below + 1);
  const auto widened = [](std::uint16_t bits) {
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  };
  const double down = std::fabs(value - widened(below)), up = std::fabs(widened(above) - value);
  return down < up || (down == up && below % 2 == 0) ? below : above;
}

inline std::vector<std::uint16_t> RandomFill(std::uint64_t key, float bound, std::uint64_t elements) {
  std::vector<std::uint16_t> out;
  for (std::uint64_t i = 0; i < elements; ++i) {
    const std::uint64_t block = i / 4;
    const auto words =
        Philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0},
               {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
    const auto w = static_cast<std::int32_t>(words[i % 4]);
    out.push_back(NearestBf16(static_cast<float>(w) * (bound * 0x1p-31f)));
  }
  return out;
}

}  // namespace mambad::kernels::reference

#endif  // MAMBAD_KERNELS_REFERENCE_RANDOM_FILL_REF_H_

// The arguments of random_fill and its arithmetic, for every device. Open random_fill.h first.
#ifndef MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_ARGS_H_
#define MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_ARGS_H_

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/math/philox.h"

namespace mambad::kernels {

struct RandomFillArgs {
  std::uint64_t key = 0;
  float bound = 0;  // of the values' size
  std::int64_t elements = 0;
  std::uint16_t* out = nullptr;  // (elements), written
};

// Elements of one Philox block.
inline constexpr std::int64_t kRandomFillBlock = 4;

MAMBAD_LANE void FillRandomBlock(const RandomFillArgs& args, std::int64_t block) {
  const auto counter = static_cast<std::uint64_t>(block);
  const PhiloxWords words =
      Philox4x32({{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0}},
                 static_cast<std::uint32_t>(args.key), static_cast<std::uint32_t>(args.key >> 32));
  const float scale = args.bound * 0x1p-31f;
  const std::int64_t first = block * kRandomFillBlock;
  for (int i = 0; i < kRandomFillBlock; ++i) {
    if (first + i >= args.elements) break;
    args.out[first + i] = FloatToBf16(static_cast<float>(static_cast<std::int32_t>(words.w[i])) * scale);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_ARGS_H_

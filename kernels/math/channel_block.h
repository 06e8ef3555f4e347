// A block of consecutive channels: the unit that convolution and scan work on. One cache line of floats,
// whatever the lane type; the last block of a row may be narrower.
#ifndef MAMBAD_KERNELS_MATH_CHANNEL_BLOCK_H_
#define MAMBAD_KERNELS_MATH_CHANNEL_BLOCK_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr int kBlockChannels = 16;

constexpr std::int64_t ChannelBlocks(std::int64_t channels) {
  return (channels + kBlockChannels - 1) / kBlockChannels;
}

// V::kLanes consecutive channels, of which `width` exist; kFull promises all of them.
template <class V, bool kFull>
struct ChannelLanes {
  int width;

  // From `channel` on, of `channels`.
  static MAMBAD_LANE ChannelLanes At(std::int64_t channel, std::int64_t channels) {
    const std::int64_t rest = channels - channel;
    return {kFull || rest > V::kLanes ? V::kLanes : static_cast<int>(rest)};
  }
  // Channels past the width load as 0.
  MAMBAD_LANE V Load(const float* p) const {
    if constexpr (kFull) return V::Load(p);
    return V::LoadN(p, width);
  }
  MAMBAD_LANE void Store(V value, float* p) const {
    if constexpr (kFull) {
      value.Store(p);
    } else {
      value.StoreN(p, width);
    }
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_CHANNEL_BLOCK_H_

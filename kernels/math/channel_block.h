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

// The part of a block that vector `u` of V covers. kFull promises width == kBlockChannels.
template <class V, bool kFull>
struct BlockPart {
  static constexpr int kVectors = kBlockChannels / V::kLanes;
  int width;

  MAMBAD_LANE V Load(const float* block, int u) const {
    if constexpr (kFull) return V::Load(block + u * V::kLanes);
    return V::LoadN(block + u * V::kLanes, width - u * V::kLanes);
  }
  MAMBAD_LANE void Store(V value, float* block, int u) const {
    if constexpr (kFull) {
      value.Store(block + u * V::kLanes);
    } else {
      value.StoreN(block + u * V::kLanes, width - u * V::kLanes);
    }
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_CHANNEL_BLOCK_H_

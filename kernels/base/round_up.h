// RoundUp: sizes and indices to the next multiple.
#ifndef MAMBAD_KERNELS_BASE_ROUND_UP_H_
#define MAMBAD_KERNELS_BASE_ROUND_UP_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

// The least multiple of `unit` that is not below `value`. REQUIRES: value >= 0, unit > 0.
constexpr MAMBAD_LANE std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_ROUND_UP_H_

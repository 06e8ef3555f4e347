// The arithmetic of logit bias and penalties, for host and device.
#ifndef MAMBAD_KERNELS_SAMPLING_LOGIT_ADJUST_H_
#define MAMBAD_KERNELS_SAMPLING_LOGIT_ADJUST_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

// Bias and penalties keep a logit finite: only suppression excludes a token.
MAMBAD_LANE float ClampFinite(float logit) {
  constexpr float kLargest = 0x1.fffffep+127f;
  return logit > kLargest ? kLargest : logit < -kLargest ? -kLargest : logit;
}

MAMBAD_LANE float Biased(float logit, float bias) { return ClampFinite((F32x1{logit} + F32x1{bias}).v); }

struct Penalties {
  float repetition;
  float presence;
  float frequency;

  MAMBAD_LANE bool Any() const { return repetition != 1.0f || presence != 0.0f || frequency != 0.0f; }
  // `output_count`: how often the output holds the token (0: it stands in the prompt only).
  MAMBAD_LANE float Apply(float logit, std::int32_t output_count) const {
    F32x1 l = logit > 0 ? F32x1{logit} / F32x1{repetition} : F32x1{logit} * F32x1{repetition};
    if (output_count > 0) {
      l = l - (F32x1{presence} + F32x1{frequency} * F32x1{static_cast<float>(output_count)});
    }
    return ClampFinite(l.v);
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_LOGIT_ADJUST_H_

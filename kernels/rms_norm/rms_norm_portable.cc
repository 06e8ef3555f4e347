#include "kernels/rms_norm/rms_norm_lanes.h"

namespace mambad::kernels {

void RmsNormPortable(const RmsNormArgs& args, Range rows) { RmsNormRows<F32x4>(args, rows); }

RmsNormKernel RmsNormKernelFor(CpuPath path) {
#if defined(__x86_64__)
  if (path == CpuPath::kAvx512) return &RmsNormAvx512;
  if (path == CpuPath::kAvx2) return &RmsNormAvx2;
#endif
  return &RmsNormPortable;
}

}  // namespace mambad::kernels

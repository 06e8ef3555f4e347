#include "kernels/causal_conv1d/causal_conv1d_lanes.h"

namespace mambad::kernels {

CausalConv1dKernels CausalConv1dPortable() {
  return {&ConvPrefill<F32x4>, &ConvStep<F32x4>};
}

CausalConv1dKernels CausalConv1dKernelsFor(CpuPath path) {
#if defined(__x86_64__)
  if (path == CpuPath::kAvx512) return CausalConv1dAvx512();
  if (path == CpuPath::kAvx2) return CausalConv1dAvx2();
#endif
  return CausalConv1dPortable();
}

}  // namespace mambad::kernels

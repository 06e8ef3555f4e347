#include "kernels/sampling/sampling_lanes.h"

namespace mambad::kernels {

RowKernels RowKernelsPortable() { return {&RowMax<F32x4>, &RowWeigh<F32x4>}; }

RowKernels RowKernelsFor(CpuPath path) {
#if defined(__x86_64__)
  if (path == CpuPath::kAvx512) return RowKernelsAvx512();
  if (path == CpuPath::kAvx2) return RowKernelsAvx2();
#endif
  return RowKernelsPortable();
}

}  // namespace mambad::kernels

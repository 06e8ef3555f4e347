#include "kernels/selective_scan/selective_scan_lanes.h"

namespace mambad::kernels {

SelectiveScanKernels SelectiveScanPortable() {
  return {&ScanPrefill<Pair<Pair<F32x4>>>, &ScanStep<Pair<Pair<F32x4>>>};
}

SelectiveScanKernels SelectiveScanKernelsFor(CpuPath path) {
#if defined(__x86_64__)
  if (path == CpuPath::kAvx512) return SelectiveScanAvx512();
  if (path == CpuPath::kAvx2) return SelectiveScanAvx2();
#endif
  return SelectiveScanPortable();
}

}  // namespace mambad::kernels

// Compiled for its instruction set; runs only where CpuPath::kAvx2 was selected.
#include "kernels/selective_scan/selective_scan_lanes.h"

namespace mambad::kernels {

SelectiveScanKernels SelectiveScanAvx2() { return {&ScanPrefill<Pair<F32x8>>, &ScanStep<Pair<F32x8>>}; }

}  // namespace mambad::kernels

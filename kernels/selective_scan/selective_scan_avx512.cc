// Compiled for its instruction set; runs only where CpuPath::kAvx512 was selected.
#include "kernels/selective_scan/selective_scan_lanes.h"

namespace mambad::kernels {

SelectiveScanKernels SelectiveScanAvx512() { return {&ScanPrefill<F32x16>, &ScanStep<F32x16>}; }

}  // namespace mambad::kernels

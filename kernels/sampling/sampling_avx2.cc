// Compiled for its instruction set; runs only where CpuPath::kAvx2 was selected.
#include "kernels/sampling/sampling_lanes.h"

namespace mambad::kernels {

RowKernels RowKernelsAvx2() { return {&RowMax<F32x8>, &RowWeigh<F32x8>}; }

}  // namespace mambad::kernels

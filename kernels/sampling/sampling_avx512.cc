// Compiled for its instruction set; runs only where CpuPath::kAvx512 was selected.
#include "kernels/sampling/sampling_lanes.h"

namespace mambad::kernels {

RowKernels RowKernelsAvx512() { return {&RowMax<F32x16>, &RowWeigh<F32x16>}; }

}  // namespace mambad::kernels

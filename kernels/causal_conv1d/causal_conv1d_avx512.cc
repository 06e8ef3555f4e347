// Compiled for its instruction set; runs only where CpuPath::kAvx512 was selected.
#include "kernels/causal_conv1d/causal_conv1d_lanes.h"

namespace mambad::kernels {

CausalConv1dKernels CausalConv1dAvx512() { return {&ConvPrefill<F32x16>, &ConvStep<F32x16>}; }

}  // namespace mambad::kernels

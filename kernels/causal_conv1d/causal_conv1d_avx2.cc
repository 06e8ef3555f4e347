// Compiled for its instruction set; runs only where CpuPath::kAvx2 was selected.
#include "kernels/causal_conv1d/causal_conv1d_lanes.h"

namespace mambad::kernels {

CausalConv1dKernels CausalConv1dAvx2() { return {&ConvPrefill<F32x8>, &ConvStep<F32x8>}; }

}  // namespace mambad::kernels

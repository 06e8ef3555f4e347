// The general CUDA kernels of causal_conv1d: any shape, any card. Arguments were checked; slot_index and
// offsets are in device memory. They enqueue and return.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CUDA_H_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CUDA_H_

#include "kernels/causal_conv1d/causal_conv1d_args.h"
#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

gpu::Code CausalConv1dPrefillCuda(void* stream, const CausalConv1dPrefillArgs& args);
gpu::Code CausalConv1dStepCuda(void* stream, const CausalConv1dStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CUDA_H_

// Inside of causal_conv1d on the CPU: what one instruction set's file offers to the dispatcher.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CPU_H_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CPU_H_

#include "kernels/causal_conv1d/causal_conv1d.h"
#include "kernels/device/cpu_path.h"
#include "kernels/device/thread_pool.h"

namespace mambad::kernels {

struct CausalConv1dKernels {
  // All chunks, for the channels of `blocks` (kernels/math/channel_block.h).
  void (*prefill)(const CausalConv1dPrefillArgs& args, Range blocks);
  // Items are (row, block), row-major.
  void (*step)(const CausalConv1dStepArgs& args, Range items);
};

CausalConv1dKernels CausalConv1dPortable();
CausalConv1dKernels CausalConv1dAvx2();
CausalConv1dKernels CausalConv1dAvx512();

CausalConv1dKernels CausalConv1dKernelsFor(CpuPath path);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_CPU_H_

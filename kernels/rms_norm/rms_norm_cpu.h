// Inside of rms_norm on the CPU: what one instruction set's file offers to the dispatcher.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CPU_H_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CPU_H_

#include "kernels/device/cpu_path.h"
#include "kernels/device/thread_pool.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mambad::kernels {

using RmsNormKernel = void (*)(const RmsNormArgs& args, Range rows);

void RmsNormPortable(const RmsNormArgs& args, Range rows);
void RmsNormAvx2(const RmsNormArgs& args, Range rows);
void RmsNormAvx512(const RmsNormArgs& args, Range rows);

RmsNormKernel RmsNormKernelFor(CpuPath path);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CPU_H_

// The general CUDA kernels of rms_norm: any shape, any card. Arguments were checked; slot_index and offsets
// are in device memory. They enqueue and return.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CUDA_H_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/rms_norm/rms_norm_args.h"

namespace mambad::kernels {

gpu::Code RmsNormCuda(void* stream, const RmsNormArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_CUDA_H_

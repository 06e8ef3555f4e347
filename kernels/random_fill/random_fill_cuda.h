// random_fill on a GPU. Arguments were checked. Enqueues and returns.
#ifndef MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_CUDA_H_
#define MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/random_fill/random_fill_args.h"

namespace mambad::kernels {

gpu::Code RandomFillCuda(void* stream, const RandomFillArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_CUDA_H_

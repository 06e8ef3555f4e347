// narrow_state on a GPU. Arguments were checked; the indices are in device memory. Enqueue and return.
#ifndef MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_CUDA_H_
#define MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/narrow_state/narrow_state_args.h"

namespace mambad::kernels {

gpu::Code WidenStatesCuda(void* stream, const NarrowStateArgs& args);
gpu::Code RoundStatesCuda(void* stream, const NarrowStateArgs& args);
gpu::Code AdvanceKeysCuda(void* stream, const AdvanceKeysArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_CUDA_H_

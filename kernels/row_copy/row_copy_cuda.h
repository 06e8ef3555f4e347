// row_copy on a GPU. Arguments were checked; the indices are in device memory. Enqueues and returns.
#ifndef MAMBAD_KERNELS_ROW_COPY_ROW_COPY_CUDA_H_
#define MAMBAD_KERNELS_ROW_COPY_ROW_COPY_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/row_copy/row_copy_args.h"

namespace mambad::kernels {

gpu::Code CopyRowsCuda(void* stream, const RowCopyArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_ROW_COPY_ROW_COPY_CUDA_H_

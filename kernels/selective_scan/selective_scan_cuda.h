// The general CUDA kernels of selective_scan: any shape, any card. Arguments were checked; slot_index and
// offsets are in device memory. They enqueue and return.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CUDA_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/selective_scan/selective_scan_args.h"

namespace mambad::kernels {

gpu::Code SelectiveScanPrefillCuda(void* stream, const SelectiveScanPrefillArgs& args);
gpu::Code SelectiveScanStepCuda(void* stream, const SelectiveScanStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CUDA_H_

// The linear op on a GPU, as linear.cc calls it.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_GPU_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_GPU_H_

#include "absl/status/status.h"
#include "kernels/linear/linear.h"

namespace mambad::kernels {

// Copies rows [0, table.rows) of a host matrix through a staging buffer into `packed` (device memory).
absl::Status UploadRows(Device& device, const LinearWeight& table, bool cores, void* packed);

absl::Status LinearGpu(Stream& stream, const PackedLinear& weight, const LinearArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_GPU_H_

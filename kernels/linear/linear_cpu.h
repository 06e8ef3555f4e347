// Inside of the linear op on the CPU.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_CPU_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_CPU_H_

#include <cstddef>

#include "absl/status/status.h"
#include "kernels/device/cpu_path.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_kernel.h"

namespace mambad::kernels {

const LinearKernel& LinearKernelFor(CpuPath path, WeightPrecision precision);

void PackPanelsCpu(Device& device, const LinearWeight& weight, PanelLayout layout, std::size_t panel_bytes,
                   std::byte* panels);
absl::Status LinearCpu(Stream& stream, const PackedLinear& weight, const LinearArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_CPU_H_

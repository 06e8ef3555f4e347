// Inside of selective_scan on the CPU: what one instruction set's file offers to the dispatcher.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CPU_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CPU_H_

#include "kernels/device/cpu_path.h"
#include "kernels/device/thread_pool.h"
#include "kernels/selective_scan/selective_scan.h"

namespace mambad::kernels {

// Blocks that a step takes together.
inline constexpr int kStepBlocks = 4;

struct SelectiveScanKernels {
  // All chunks, for the channels of `blocks` (kernels/math/channel_block.h).
  void (*prefill)(const SelectiveScanPrefillArgs& args, Range blocks);
  // Items are (group of kStepBlocks blocks, row), group-major: args.rows items per group.
  void (*step)(const SelectiveScanStepArgs& args, Range items);
};

SelectiveScanKernels SelectiveScanPortable();
SelectiveScanKernels SelectiveScanAvx2();
SelectiveScanKernels SelectiveScanAvx512();

SelectiveScanKernels SelectiveScanKernelsFor(CpuPath path);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_CPU_H_

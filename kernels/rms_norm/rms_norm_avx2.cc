// Compiled for its instruction set; runs only where CpuPath::kAvx2 was selected.
#include "kernels/rms_norm/rms_norm_lanes.h"

namespace mambad::kernels {

void RmsNormAvx2(const RmsNormArgs& args, Range rows) { RmsNormRows<F32x8>(args, rows); }

}  // namespace mambad::kernels

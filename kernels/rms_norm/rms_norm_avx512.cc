// Compiled for its instruction set; runs only where CpuPath::kAvx512 was selected.
#include "kernels/rms_norm/rms_norm_lanes.h"

namespace mambad::kernels {

void RmsNormAvx512(const RmsNormArgs& args, Range rows) { RmsNormRows<F32x16>(args, rows); }

}  // namespace mambad::kernels

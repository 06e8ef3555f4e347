// How the workspaces of a forward pass are divided.
#ifndef MAMBAD_ENGINE_MODEL_WORKSPACE_H_
#define MAMBAD_ENGINE_MODEL_WORKSPACE_H_

#include <cstdint>

#include "kernels/base/round_up.h"

namespace mambad {

// The floats of a region that keep the next one on a 64-byte boundary.
constexpr int64_t AlignedFloats(int64_t floats) { return kernels::RoundUp(floats, 16); }

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_WORKSPACE_H_

// Which instruction set the CPU kernels run on. Chosen once, when a Device is created; part of the numerics
// id, because the paths need not agree in the last bit.
#ifndef MAMBAD_KERNELS_DEVICE_CPU_PATH_H_
#define MAMBAD_KERNELS_DEVICE_CPU_PATH_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace mambad::kernels {

enum class CpuPath {
  kPortable,  // plain C++, any machine
  kAvx2,      // AVX2, FMA, F16C
  kAvx512,    // AVX-512 F, BW, DQ, VL and BF16, and all of kAvx2
};

// "portable", "avx2", "avx512": the words of MAMBAD_CPU and of the numerics id.
std::string_view Name(CpuPath path);

// True when this machine (and this build) can run `path`.
bool Supported(CpuPath path);

// The best supported path, or the one that the environment variable MAMBAD_CPU names. An unknown word is
// InvalidArgument, a path that this machine lacks FailedPrecondition; both name MAMBAD_CPU.
absl::StatusOr<CpuPath> SelectCpuPath();

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_CPU_PATH_H_

#include "kernels/device/cpu_path.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace mambad::kernels {
namespace {

constexpr CpuPath kBestFirst[] = {CpuPath::kAvx512, CpuPath::kAvx2, CpuPath::kPortable};

}  // namespace

std::string_view Name(CpuPath path) {
  switch (path) {
    case CpuPath::kPortable:
      return "portable";
    case CpuPath::kAvx2:
      return "avx2";
    case CpuPath::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool Supported(CpuPath path) {
#if defined(__x86_64__)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  switch (path) {
    case CpuPath::kPortable:
      return true;
    case CpuPath::kAvx2:
      return avx2;
    case CpuPath::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bf16");
  }
#endif
  return path == CpuPath::kPortable;
}

absl::StatusOr<CpuPath> SelectCpuPath() {
  const char* forced = std::getenv("MAMBAD_CPU");
  if (forced == nullptr || *forced == '\0') {
    for (CpuPath path : kBestFirst) {
      if (Supported(path)) return path;
    }
    return CpuPath::kPortable;
  }
  for (CpuPath path : kBestFirst) {
    if (Name(path) != forced) continue;
    if (Supported(path)) return path;
    return absl::FailedPreconditionError(
        absl::StrCat("MAMBAD_CPU: this machine cannot run the path '", std::string(Name(path)), "'"));
  }
  return absl::InvalidArgumentError("MAMBAD_CPU: want avx512, avx2 or portable");
}

}  // namespace mambad::kernels

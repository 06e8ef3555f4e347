#include "kernels/rms_norm/rms_norm.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/rms_norm/rms_norm_cpu.h"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace mambad::kernels {
namespace {

absl::Status CheckArgs(const RmsNormArgs& args) {
  const auto bad = [](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("rms_norm: ", what));
  };
  if (args.rows < 0) return bad("rows is negative");
  if (args.width < 1) return bad("width is below 1");
  if (!(args.eps >= 0.0f) || !std::isfinite(args.eps)) return bad("eps is negative or not finite");
  if (args.rows == 0) return absl::OkStatus();
  if (args.x == nullptr || args.y == nullptr) return bad("x or y is null");
  if (args.x_stride < args.width || args.y_stride < args.width) return bad("a stride is below width");
  return absl::OkStatus();
}

}  // namespace

absl::Status RmsNorm(Stream& stream, const RmsNormArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckArgs(args));
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "rms_norm", RmsNormCuda(stream.handle(), args));
  const RmsNormKernel kernel = RmsNormKernelFor(stream.cpu_path());
  if (args.rows == 1) {
    kernel(args, {0, 1});
    return absl::OkStatus();
  }
  stream.pool().Run([&](int worker, int workers) { kernel(args, Slice(args.rows, 1, worker, workers)); });
  return absl::OkStatus();
}

}  // namespace mambad::kernels

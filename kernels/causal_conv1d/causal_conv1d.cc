#include "kernels/causal_conv1d/causal_conv1d.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/slot_checks.h"
#include "kernels/base/status_macros.h"
#include "kernels/causal_conv1d/causal_conv1d_cpu.h"
#include "kernels/causal_conv1d/causal_conv1d_cuda.h"
#include "kernels/device/gpu_call.h"
#include "kernels/math/channel_block.h"

namespace mambad::kernels {
namespace {

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("causal_conv1d: ", what));
}

template <class Args>
absl::Status CheckCommon(Stream& stream, const Args& args, std::int64_t count) {
  if (args.filter.channels < 1) return Bad("channels is below 1");
  if (args.filter.width < 1 || args.filter.width > kMaxConvWidth) return Bad("width is out of range");
  if (count < 0) return Bad("rows or chunks is negative");
  if (count == 0) return absl::OkStatus();
  if (args.filter.weight == nullptr) return Bad("weight is null");
  if (args.x == nullptr || args.y == nullptr) return Bad("x or y is null");
  if (args.x_stride < args.filter.channels || args.y_stride < args.filter.channels) {
    return Bad("a stride is below channels");
  }
  if (args.window.dtype != DType::kF32) return Bad("the window is not fp32");
  return CheckSlots("causal_conv1d", stream, args.window, args.slot_index, count);
}

}  // namespace

absl::Status CausalConv1dPrefill(Stream& stream, const CausalConv1dPrefillArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckCommon(stream, args, args.chunks));
  MAMBAD_RETURN_IF_ERROR(CheckOffsets("causal_conv1d", stream, args.offsets, args.chunks));
  if (stream.on_gpu())
    return MAMBAD_ON_GPU(stream, "causal_conv1d", CausalConv1dPrefillCuda(stream.handle(), args));
  const CausalConv1dKernels kernels = CausalConv1dKernelsFor(stream.cpu_path());
  const std::int64_t blocks = ChannelBlocks(args.filter.channels);
  stream.pool().Run(
      [&](int worker, int workers) { kernels.prefill(args, Slice(blocks, 1, worker, workers)); });
  return absl::OkStatus();
}

absl::Status CausalConv1dStep(Stream& stream, const CausalConv1dStepArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckCommon(stream, args, args.rows));
  if (stream.on_gpu())
    return MAMBAD_ON_GPU(stream, "causal_conv1d", CausalConv1dStepCuda(stream.handle(), args));
  const CausalConv1dKernels kernels = CausalConv1dKernelsFor(stream.cpu_path());
  const std::int64_t items = args.rows * ChannelBlocks(args.filter.channels);
  stream.pool().Run([&](int worker, int workers) { kernels.step(args, Slice(items, 1, worker, workers)); });
  return absl::OkStatus();
}

}  // namespace mambad::kernels

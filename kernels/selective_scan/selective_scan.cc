#include "kernels/selective_scan/selective_scan.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "kernels/base/slot_checks.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/math/channel_block.h"
#include "kernels/selective_scan/selective_scan_cpu.h"
#include "kernels/selective_scan/selective_scan_cuda.h"

namespace mambad::kernels {
namespace {

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("selective_scan: ", what));
}

template <class Args>
absl::Status CheckCommon(Stream& stream, const Args& args, std::int64_t count) {
  const SelectiveScanParams& params = args.params;
  const SelectiveScanInputs& in = args.in;
  if (params.channels < 1) return Bad("channels is below 1");
  if (params.state_size < 1 || params.state_size > kMaxStateSize) return Bad("state_size is out of range");
  if (count < 0) return Bad("rows or chunks is negative");
  if (count == 0) return absl::OkStatus();
  if (params.decay_log2 == nullptr || params.skip == nullptr) return Bad("decay_log2 or skip is null");
  if (in.x == nullptr || in.delta_raw == nullptr || in.z == nullptr || in.b == nullptr || in.c == nullptr ||
      args.y == nullptr) {
    return Bad("an input or y is null");
  }
  if (in.x_stride < params.channels || in.delta_stride < params.channels || in.z_stride < params.channels ||
      args.y_stride < params.channels) {
    return Bad("a stride is below channels");
  }
  if (in.bc_stride < params.state_size) return Bad("bc_stride is below state_size");
  return CheckSlots("selective_scan", stream, args.state, args.slot_index, count);
}

}  // namespace

void PackDecay(const float* a_log, std::int64_t channels, std::int64_t state_size, float* decay_log2) {
  for (std::int64_t d = 0; d < channels; ++d) {
    for (std::int64_t n = 0; n < state_size; ++n) {
      const double decay = -std::exp(static_cast<double>(a_log[d * state_size + n])) * std::numbers::log2e;
      decay_log2[n * channels + d] = static_cast<float>(decay);
    }
  }
}

absl::Status SelectiveScanPrefill(Stream& stream, const SelectiveScanPrefillArgs& args) {
  if (args.state.dtype != DType::kF32) return Bad("prefill takes a fp32 state");
  MAMBAD_RETURN_IF_ERROR(CheckCommon(stream, args, args.chunks));
  MAMBAD_RETURN_IF_ERROR(CheckOffsets("selective_scan", stream, args.offsets, args.chunks));
  if (stream.on_gpu())
    return MAMBAD_ON_GPU(stream, "selective_scan", SelectiveScanPrefillCuda(stream.handle(), args));
  const SelectiveScanKernels kernels = SelectiveScanKernelsFor(stream.cpu_path());
  const std::int64_t blocks = ChannelBlocks(args.params.channels);
  stream.pool().Run(
      [&](int worker, int workers) { kernels.prefill(args, Slice(blocks, 1, worker, workers)); });
  return absl::OkStatus();
}

absl::Status SelectiveScanStep(Stream& stream, const SelectiveScanStepArgs& args) {
  if (args.state.dtype == DType::kF16) return Bad("a step takes a fp32 or bf16 state");
  MAMBAD_RETURN_IF_ERROR(CheckCommon(stream, args, args.rows));
  if (stream.on_gpu())
    return MAMBAD_ON_GPU(stream, "selective_scan", SelectiveScanStepCuda(stream.handle(), args));
  const SelectiveScanKernels kernels = SelectiveScanKernelsFor(stream.cpu_path());
  const std::int64_t groups = (ChannelBlocks(args.params.channels) + kStepBlocks - 1) / kStepBlocks;
  const std::int64_t items = groups * args.rows;
  stream.pool().Run([&](int worker, int workers) { kernels.step(args, Slice(items, 1, worker, workers)); });
  return absl::OkStatus();
}

}  // namespace mambad::kernels

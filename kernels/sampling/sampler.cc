#include "kernels/sampling/sampler.h"

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_status.h"

namespace mambad::kernels {

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Device& device, const LogitsShape& shape) {
  MAMBAD_RETURN_IF_ERROR(CheckShape(shape));
  if (!device.is_gpu()) return CreateOnCpu(device, shape);
#if defined(MAMBAD_HAS_CUDA)
  return CreateOnGpu(device, shape);
#else
  return GpuStatus(gpu::kAbsent, "sampling");
#endif
}

absl::Status Sampler::Sample(Stream& stream, const SampleArgs& args) {
  MAMBAD_CHECK(waiting_ == 0);
  if (args.results.size() != args.params.size())
    return absl::InvalidArgumentError("sampling: params and results differ in size");
  MAMBAD_RETURN_IF_ERROR(Enqueue(stream, args));
  MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
  Take(args.results);
  return absl::OkStatus();
}

absl::Status Sampler::Enqueue(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn) {
  MAMBAD_CHECK(&stream.device() == &device_ && waiting_ < kDrawsMax);
  MAMBAD_RETURN_IF_ERROR(CheckSample(shape_, args, drawn));
  if (drawn.tokens != nullptr && !device_.is_gpu())
    return absl::InvalidArgumentError("sampling: a table of drawn tokens is for a GPU");
  const int draw = (oldest_ + waiting_) % kDrawsMax;
  if (!args.params.empty()) MAMBAD_RETURN_IF_ERROR(EnqueueRows(stream, args, drawn, draw));
  ++waiting_;
  return absl::OkStatus();
}

void Sampler::Take(std::span<SampledToken> results) {
  MAMBAD_CHECK(waiting_ > 0);
  TakeRows(results, oldest_);
  oldest_ = (oldest_ + 1) % kDrawsMax;
  --waiting_;
}

absl::Status Sampler::Score(Stream& stream, const ScoreArgs& args) {
  MAMBAD_CHECK(&stream.device() == &device_ && waiting_ == 0);
  MAMBAD_RETURN_IF_ERROR(CheckScore(shape_, args));
  return args.targets.empty() ? absl::OkStatus() : ScoreRows(stream, args);
}

}  // namespace mambad::kernels

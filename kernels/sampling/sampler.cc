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
  MAMBAD_CHECK(&stream.device() == &device_);
  MAMBAD_RETURN_IF_ERROR(CheckSample(shape_, args));
  return args.params.empty() ? absl::OkStatus() : SampleRows(stream, args);
}

absl::Status Sampler::Score(Stream& stream, const ScoreArgs& args) {
  MAMBAD_CHECK(&stream.device() == &device_);
  MAMBAD_RETURN_IF_ERROR(CheckScore(shape_, args));
  return args.targets.empty() ? absl::OkStatus() : ScoreRows(stream, args);
}

}  // namespace mambad::kernels

#include "kernels/mamba_layer/mamba_layer.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/mamba_layer/step_ends.h"

namespace mambad::kernels {
PackedWeight AsPackedWeight(const PackedLinear& linear) {
  MAMBAD_CHECK(linear.layout() == PanelLayout::kGpuCores);
  return {static_cast<const std::uint16_t*>(linear.data()), static_cast<std::int32_t>(linear.rows()),
          static_cast<std::int32_t>(linear.cols())};
}

#if defined(MAMBAD_HAS_CUDA)

namespace {

// The decode kernels name what is wrong; null: nothing.
absl::Status AsStatus(std::string_view op, const char* error) {
  if (error == nullptr) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(std::string(op), ": ", error));
}

}  // namespace

std::string_view WhyNotFused(const Device& device, const MambaLayerShape& shape) {
  if (!device.is_gpu() || device.gpu().major < 9) return "the fused kernels need a Hopper GPU";
  const char* const why_not = WhyNotMambaLayerStep(shape);
  return why_not != nullptr ? why_not : "";
}

absl::Status EmbedStep(Stream& stream, const Embedding& embedding, const EmbedStepArgs& args) {
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  const void* const table = embedding.head() != nullptr ? embedding.head()->data() : embedding.table();
  return AsStatus("embedding",
                  EmbedRows(stream.handle(), {.embedding = {static_cast<const std::uint16_t*>(table),
                                                            static_cast<std::int32_t>(embedding.rows()),
                                                            static_cast<std::int32_t>(embedding.cols())},
                                              .tokens = reinterpret_cast<const std::int32_t*>(args.tokens),
                                              .rows = args.rows,
                                              .norm_weight = args.norm_weight,
                                              .buffers = args.buffers}));
}

absl::Status MambaLayerStep(Stream& stream, const MambaLayerStepArgs& args) {
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  return AsStatus("mamba_layer step", MambaLayerStep(stream.handle(), args));
}

absl::Status ClearHanded(Stream& stream, const StepBuffers& buffers) {
  return FillBytes(stream, buffers.handed.u, 0xff, buffers.handed.bytes);
}

absl::Status MambaStackStep(Stream& stream, std::span<const MambaLayerStepArgs> layers) {
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  return AsStatus("mamba_layer step", MambaStackStep(stream.handle(), layers));
}

std::size_t MambaLayerPromptBytes(const MambaLayerShape& shape, std::int64_t tokens, std::int64_t chunks) {
  return MambaLayerPromptWorkspace(shape, tokens, chunks);
}

absl::Status PlacePromptTokens(Stream& stream, const PromptChunks& prompt, void* workspace) {
  return MAMBAD_ON_GPU(stream, "mamba_layer prompt", PlacePromptTokens(prompt, workspace, stream.handle()));
}

absl::Status MambaLayerPrompt(Stream& stream, const MambaLayerPromptArgs& args) {
  return MAMBAD_ON_GPU(stream, "mamba_layer prompt", MambaLayerPrompt(args, stream.handle()));
}

absl::Status StepHead(Stream& stream, const PackedLinear& head, const StepHeadArgs& args) {
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  return AsStatus("head", HeadStep(stream.handle(), {.head = AsPackedWeight(head),
                                                     .buffers = args.buffers,
                                                     .rows = args.rows,
                                                     .norm_eps = args.norm_eps,
                                                     .logits = args.logits,
                                                     .stride = args.logits_stride}));
}

absl::Status HeadRows(Stream& stream, const PackedLinear& head, const HeadRowsArgs& args) {
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  const std::int32_t bucket = StepBucket(static_cast<std::int32_t>(args.rows));
  MAMBAD_RETURN_IF_ERROR(
      AsStatus("head", NormRows(stream.handle(), {.hidden = args.hidden,
                                                  .rows = static_cast<std::int32_t>(args.rows),
                                                  .bucket = bucket,
                                                  .width = static_cast<std::int32_t>(head.cols()),
                                                  .norm_weight = args.norm_weight,
                                                  .buffers = args.buffers})));
  return StepHead(stream, head,
                  {.buffers = args.buffers,
                   .rows = bucket,
                   .norm_eps = args.norm_eps,
                   .logits = args.logits,
                   .logits_stride = args.logits_stride});
}

#else

std::string_view WhyNotFused(const Device&, const MambaLayerShape&) {
  return "this build has no CUDA kernels";
}

namespace {
absl::Status Absent() { return GpuStatus(gpu::kAbsent, "mamba_layer"); }
}  // namespace

absl::Status EmbedStep(Stream&, const Embedding&, const EmbedStepArgs&) { return Absent(); }
absl::Status MambaLayerStep(Stream&, const MambaLayerStepArgs&) { return Absent(); }
absl::Status ClearHanded(Stream&, const StepBuffers&) { return Absent(); }
absl::Status MambaStackStep(Stream&, std::span<const MambaLayerStepArgs>) { return Absent(); }
std::size_t MambaLayerPromptBytes(const MambaLayerShape&, std::int64_t, std::int64_t) { return 0; }
absl::Status PlacePromptTokens(Stream&, const PromptChunks&, void*) { return Absent(); }
absl::Status MambaLayerPrompt(Stream&, const MambaLayerPromptArgs&) { return Absent(); }
absl::Status StepHead(Stream&, const PackedLinear&, const StepHeadArgs&) { return Absent(); }
absl::Status HeadRows(Stream&, const PackedLinear&, const HeadRowsArgs&) { return Absent(); }

#endif

}  // namespace mambad::kernels

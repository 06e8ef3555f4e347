// A Mamba layer on a GPU, fused with its norm and residual sum: what the engine calls. Open
// mamba_layer_step.h (decode) and mamba_layer_prompt.h (prompts) for what the kernels compute.
//
// A whole decode step:  EmbedStep, MambaStackStep (or MambaLayerStep for every layer), StepHead.
// A whole prompt pass:  the embedding op, PlacePromptTokens, MambaLayerPrompt for every layer, HeadRows.
//
// Everything enqueues on a stream that is on a GPU, allocates nothing and may be recorded in a graph.
// Errors: Internal, naming what the kernels refuse (a promise of the caller that was not kept) or how the
// device failed.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/mamba_layer/mamba_layer_prompt.h"
#include "kernels/mamba_layer/mamba_layer_step.h"
#include "kernels/mamba_layer/mamba_layer_weights.h"
#include "kernels/mamba_layer/mamba_stack_step.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {

// A weight packed for a GPU in bf16 (PanelLayout::kGpuCores).
PackedWeight AsPackedWeight(const PackedLinear& linear);

// Empty when both paths take the shape on this device, else why not.
std::string_view WhyNotFused(const Device& device, const MambaLayerShape& shape);

struct EmbedStepArgs {
  const std::uint32_t* tokens = nullptr;  // (rows), device memory
  std::int32_t rows = 0;                  // a bucket
  const float* norm_weight = nullptr;     // (M): of layer 0
  StepBuffers buffers;
};

absl::Status EmbedStep(Stream& stream, const Embedding& embedding, const EmbedStepArgs& args);
absl::Status MambaLayerStep(Stream& stream, const MambaLayerStepArgs& args);
// Before the first step with `buffers`.
absl::Status ClearHanded(Stream& stream, const StepBuffers& buffers);
absl::Status MambaStackStep(Stream& stream, std::span<const MambaLayerStepArgs> layers);

std::size_t MambaLayerPromptBytes(const MambaLayerShape& shape, std::int64_t tokens, std::int64_t chunks);
absl::Status PlacePromptTokens(Stream& stream, const PromptChunks& prompt, void* workspace);
absl::Status MambaLayerPrompt(Stream& stream, const MambaLayerPromptArgs& args);

// logits = head(rms_norm_f(residual)) for the rows that the last layer of a step left in `buffers`.
struct StepHeadArgs {
  StepBuffers buffers;
  std::int32_t rows = 0;  // a bucket
  float norm_eps = 0;
  float* logits = nullptr;         // (rows, stride)
  std::int64_t logits_stride = 0;  // >= V
};

absl::Status StepHead(Stream& stream, const PackedLinear& head, const StepHeadArgs& args);

// logits = head(rms_norm(hidden)), by the head's product of a decode step whatever the rows come from.
struct HeadRowsArgs {
  const float* hidden = nullptr;       // (rows, M)
  const float* norm_weight = nullptr;  // (M)
  float norm_eps = 0;
  std::int64_t rows = 0;           // at most kMaxStepRows; buffers and logits hold the bucket of them
  StepBuffers buffers;             // u and square_sums are written
  float* logits = nullptr;         // (bucket, stride)
  std::int64_t logits_stride = 0;  // >= V
};

absl::Status HeadRows(Stream& stream, const PackedLinear& head, const HeadRowsArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_H_

#include "engine/model/fused_stack.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/mamba_layer/mamba_layer.h"

namespace mambad {

bool FusedStack::OfferedBy(std::span<Block> blocks) {
  return std::ranges::all_of(blocks, [](Block& block) { return block.fused() != nullptr; });
}

absl::StatusOr<std::unique_ptr<FusedStack>> FusedStack::Create(kernels::Device& device,
                                                               std::span<Block> blocks,
                                                               const kernels::Embedding& embedding,
                                                               const float* final_norm,
                                                               const ForwardLimits& limits, Finish finish) {
  if (!OfferedBy(blocks)) return nullptr;
  const int64_t rows_max = std::min<int64_t>(limits.decode_rows, kernels::kMaxStepRows);
  std::unique_ptr<FusedStack> stack(
      new FusedStack(blocks, embedding, final_norm, rows_max, std::move(finish)));
  FusedMixer& mixer = *blocks.front().fused();
  const kernels::StepWidths widths = mixer.FusedWidths();
  const int32_t bucket = kernels::StepBucket(static_cast<int32_t>(rows_max));
  MAMBAD_ASSIGN_OR_RETURN(stack->step_memory_, device.Allocate(kernels::StepBufferBytes(bucket, widths),
                                                               "workspace", kernels::Fill::kZero));
  stack->buffers_ = kernels::BindStepBuffers(stack->step_memory_.as<std::byte>(), bucket, widths);
  MAMBAD_ASSIGN_OR_RETURN(
      stack->prompt_memory_,
      device.Allocate(mixer.FusedPromptBytes(limits.prompt_tokens, limits.prompt_tokens), "workspace"));
  return stack;
}

absl::Status FusedStack::Prepare(kernels::Stream& stream, const BatchTables& tables, const StateView& state) {
  if (recorded_for_ != state) graphs_.clear();
  recorded_for_ = {};
  for (int32_t rows = 1; rows <= rows_max_; rows = kernels::StepBucket(rows) + 1) {
    const int32_t bucket = kernels::StepBucket(rows);
    if (graphs_.contains(bucket)) continue;
    MAMBAD_ASSIGN_OR_RETURN(kernels::Graph graph, Record(stream, tables, bucket, state));
    graphs_.insert_or_assign(bucket, std::move(graph));
  }
  recorded_for_ = state;
  return absl::OkStatus();
}

absl::StatusOr<kernels::Graph> FusedStack::Record(kernels::Stream& stream, const BatchTables& tables,
                                                  int32_t bucket, const StateView& state) {
  MAMBAD_RETURN_IF_ERROR(stream.BeginRecording());
  const absl::Status enqueued = EnqueueStep(stream, tables, bucket, state);
  absl::StatusOr<kernels::Graph> graph = stream.EndRecording();
  return enqueued.ok() ? std::move(graph) : absl::StatusOr<kernels::Graph>(enqueued);
}

absl::Status FusedStack::Decode(kernels::Stream& stream, const BatchTables& tables, int64_t rows,
                                const StateView& state) {
  MAMBAD_CHECK(rows <= rows_max_);
  if (recorded_for_ != state) MAMBAD_RETURN_IF_ERROR(Prepare(stream, tables, state));
  return stream.Replay(graphs_.at(kernels::StepBucket(static_cast<int32_t>(rows))));
}

absl::Status FusedStack::EnqueueStep(kernels::Stream& stream, const BatchTables& tables, int32_t bucket,
                                     const StateView& state) {
  MAMBAD_RETURN_IF_ERROR(kernels::EmbedStep(stream, embedding_,
                                            {.tokens = tables.decode_tokens(),
                                             .rows = bucket,
                                             .norm_weight = blocks_.front().norm_weight(),
                                             .buffers = buffers_}));
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    FusedStepCall call;
    call.stream = &stream;
    call.buffers = buffers_;
    call.rows = bucket;
    call.slot_index = tables.decode_slots();
    call.next_norm_weight = layer + 1 < blocks_.size() ? blocks_[layer + 1].norm_weight() : final_norm_;
    MAMBAD_RETURN_IF_ERROR(blocks_[layer].FusedStep(call, state));
  }
  return finish_(bucket, state);
}

absl::Status FusedStack::Prompt(kernels::Stream& stream, const MixerChunks& chunks, int64_t tokens,
                                float* residual, const StateView& state) {
  FusedPromptCall call;
  call.stream = &stream;
  call.residual = residual;
  call.tokens = tokens;
  call.chunks = chunks;
  call.workspace = prompt_memory_.data();
  for (Block& block : blocks_) {
    call.first = &block == &blocks_.front();
    MAMBAD_RETURN_IF_ERROR(block.FusedPrompt(call, state));
  }
  return absl::OkStatus();
}

}  // namespace mambad

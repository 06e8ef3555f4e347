#include "engine/model/fused_stack.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/mamba_layer/mamba_layer.h"

namespace mambad {
namespace {

// Of tokens. The kernels' tiles hold 32, 64, or times 128, so a prompt runs about as long in its bucket as
// alone. In longer ones the kernels take longer than their launches.
constexpr int64_t kPromptBuckets[] = {32, 64, 128, 256, 384, 512};

}  // namespace

bool FusedStack::OfferedBy(std::span<Block> blocks) {
  return std::ranges::all_of(blocks, [](Block& block) { return block.fused() != nullptr; });
}

absl::StatusOr<std::unique_ptr<FusedStack>> FusedStack::Create(
    kernels::Device& device, std::span<Block> blocks, const kernels::Embedding& embedding, Head& head,
    const ForwardLimits& limits, const PromptPlace& prompt, int64_t last_hidden_offset) {
  if (!OfferedBy(blocks)) return nullptr;
  const int64_t rows_max = std::min<int64_t>(limits.decode_rows, kernels::kMaxStepRows);
  std::unique_ptr<FusedStack> stack(
      new FusedStack(blocks, embedding, head, rows_max, limits.prompt_tokens, prompt, last_hidden_offset));
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

absl::Status FusedStack::Prepare(kernels::Stream& stream, StepFeed& feed, const StateView& state) {
  if (recorded_for_ != state) {
    step_graphs_.clear();
    prompt_graphs_.clear();
  }
  recorded_for_ = {};
  MAMBAD_RETURN_IF_ERROR(PrepareSteps(stream, feed, state));
  MAMBAD_RETURN_IF_ERROR(PreparePrompts(stream, state));
  recorded_for_ = state;
  return absl::OkStatus();
}

absl::Status FusedStack::PrepareSteps(kernels::Stream& stream, StepFeed& feed, const StateView& state) {
  MAMBAD_RETURN_IF_ERROR(kernels::ClearHanded(stream, buffers_));
  for (int32_t rows = 1; rows <= rows_max_; rows = kernels::StepBucket(rows) + 1) {
    const int32_t bucket = kernels::StepBucket(rows);
    if (step_graphs_.contains(bucket)) continue;
    MAMBAD_ASSIGN_OR_RETURN(kernels::Graph graph,
                            Record(stream, [&] { return EnqueueStep(stream, feed, bucket, state); }));
    MAMBAD_RETURN_IF_ERROR(feed.Enqueue(stream, Batch(), bucket));
    MAMBAD_RETURN_IF_ERROR(stream.Replay(graph));
    MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
    step_graphs_.insert_or_assign(bucket, std::move(graph));
  }
  return absl::OkStatus();
}

absl::Status FusedStack::PreparePrompts(kernels::Stream& stream, const StateView& state) {
  for (const int64_t tokens : kPromptBuckets) {
    if (tokens > prompt_tokens_max_ || prompt_graphs_.contains(tokens)) continue;
    MAMBAD_ASSIGN_OR_RETURN(kernels::Graph graph, Record(stream, [&] {
                              return EnqueuePrompt(stream, 1, tokens, state, 0, blocks_.size());
                            }));
    prompt_graphs_.insert_or_assign(tokens, std::move(graph));
  }
  return stream.Synchronize();
}

absl::StatusOr<kernels::Graph> FusedStack::Record(kernels::Stream& stream,
                                                  absl::FunctionRef<absl::Status()> enqueue) {
  MAMBAD_RETURN_IF_ERROR(stream.BeginRecording());
  const absl::Status enqueued = enqueue();
  absl::StatusOr<kernels::Graph> graph = stream.EndRecording();
  return enqueued.ok() ? std::move(graph) : absl::StatusOr<kernels::Graph>(enqueued);
}

absl::Status FusedStack::Decode(kernels::Stream& stream, int64_t rows, const StateView& state) {
  MAMBAD_CHECK(rows <= rows_max_ && prepared_for(state));
  return stream.Replay(step_graphs_.at(kernels::StepBucket(static_cast<int32_t>(rows))));
}

absl::Status FusedStack::EnqueueStep(kernels::Stream& stream, const StepFeed& feed, int32_t bucket,
                                     const StateView& state) {
  MAMBAD_RETURN_IF_ERROR(kernels::EmbedStep(stream, embedding_,
                                            {.tokens = feed.tokens(),
                                             .rows = bucket,
                                             .norm_weight = blocks_.front().norm_weight(),
                                             .buffers = buffers_}));
  std::vector<FusedBlockStep> steps;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    FusedBlockStep step;
    step.buffers = buffers_;
    step.rows = bucket;
    step.slot_index = feed.slots();
    const bool last = layer + 1 == blocks_.size();
    step.next_norm_weight = last ? head_.norm_weight() : blocks_[layer + 1].norm_weight();
    if (last) {
      step.last_hidden = {.base = state.base,
                          .slot_stride_bytes = static_cast<int64_t>(state.stride),
                          .layer_offset_bytes = last_hidden_offset_,
                          .slots = state.slots};
    }
    steps.push_back(blocks_[layer].FusedStep(step, state));
  }
  MAMBAD_RETURN_IF_ERROR(blocks_.front().fused()->FusedStep(stream, steps));
  return head_.StepLogits(stream, buffers_, bucket);
}

const kernels::Graph* FusedStack::PromptGraph(int64_t chunks, int64_t tokens, const StateView& state,
                                              size_t first, size_t last) const {
  if (chunks != 1 || first != 0 || last != blocks_.size() || !prepared_for(state)) return nullptr;
  const auto graph = prompt_graphs_.lower_bound(tokens);
  return graph == prompt_graphs_.end() ? nullptr : &graph->second;
}

absl::Status FusedStack::Prompt(kernels::Stream& stream, int64_t chunks, int64_t tokens,
                                const StateView& state, size_t first, size_t last) {
  const kernels::Graph* const graph = PromptGraph(chunks, tokens, state, first, last);
  if (graph == nullptr) return EnqueuePrompt(stream, chunks, tokens, state, first, last);
  ++prompt_replays_;
  return stream.Replay(*graph);  // its tokens behind the chunk are nobody's
}

absl::Status FusedStack::EnqueuePrompt(kernels::Stream& stream, int64_t chunks, int64_t tokens,
                                       const StateView& state, size_t first, size_t last) {
  FusedPromptCall call;
  call.stream = &stream;
  call.residual = prompt_.residual;
  call.tokens = tokens;
  call.chunks = prompt_.chunks;
  call.chunks.chunks = chunks;
  call.workspace = prompt_memory_.data();
  for (size_t layer = first; layer < last; ++layer) {
    call.first = layer == first;
    call.next_norm_weight = layer + 1 < last ? blocks_[layer + 1].norm_weight() : nullptr;
    MAMBAD_RETURN_IF_ERROR(blocks_[layer].FusedPrompt(call, state));
  }
  return absl::OkStatus();
}

}  // namespace mambad

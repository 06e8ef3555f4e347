// FusedStack: the blocks of a model on the fused path of a GPU (fused_mixer.h).
//
//   decode   one recorded graph per bucket of rows: embedding, every block, head. A batch is filled up to its
//            bucket with rows of kNoSlot; a session that joins or leaves changes entries of the feed alone.
//   prompts  a short one alone: one recorded graph per bucket of tokens, since to launch its kernels would
//            take longer than to run them; others block by block
//
// Threads: one at a time. Errors: Internal when the device failed.
#ifndef MAMBAD_ENGINE_MODEL_FUSED_STACK_H_
#define MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/batch_tables.h"
#include "engine/model/block.h"
#include "engine/model/head.h"
#include "engine/model/model.h"
#include "engine/model/step_feed.h"
#include "kernels/device/stream.h"
#include "kernels/embedding/embedding.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad {

// What every prompt pass reads and writes, in device memory: the tables of its chunks, whose number is left
// open, and the residual rows (T, M).
struct PromptPlace {
  MixerChunks chunks;
  float* residual = nullptr;
};

class FusedStack {
 public:
  // Whether every block has a fused path here. REQUIRES: they are bound.
  static bool OfferedBy(std::span<Block> blocks);
  // Null when a block offers none. `blocks`, `embedding`, `head` and what `prompt` names must outlive it;
  // slots keep their last hidden row at `last_hidden_offset`.
  static absl::StatusOr<std::unique_ptr<FusedStack>> Create(kernels::Device& device, std::span<Block> blocks,
                                                            const kernels::Embedding& embedding, Head& head,
                                                            const ForwardLimits& limits,
                                                            const PromptPlace& prompt,
                                                            int64_t last_hidden_offset);

  // Records every bucket's graph for rows from `feed`, prompts and slots at `state`, so that no request waits
  // for it, and runs those of steps once without a row.
  absl::Status Prepare(kernels::Stream& stream, StepFeed& feed, const StateView& state);
  // Runs the `rows` rows of `feed`; their logits are then the head's, in order. REQUIRES: Prepare for
  // `state`.
  absl::Status Decode(kernels::Stream& stream, int64_t rows, const StateView& state);
  bool prepared_for(const StateView& state) const { return recorded_for_ == state; }
  // Runs the blocks [first, last) on so many chunks and tokens of the prompts' place.
  absl::Status Prompt(kernels::Stream& stream, int64_t chunks, int64_t tokens, const StateView& state,
                      size_t first, size_t last);
  // Passes that were graphs, so far.
  int64_t prompt_replays() const { return prompt_replays_; }

  const float* residual() const { return buffers_.residual; }  // (B, M)
  size_t bytes() const { return step_memory_.bytes() + prompt_memory_.bytes(); }

 private:
  FusedStack(std::span<Block> blocks, const kernels::Embedding& embedding, Head& head, int64_t rows_max,
             int64_t prompt_tokens_max, const PromptPlace& prompt, int64_t last_hidden_offset)
      : blocks_(blocks),
        embedding_(embedding),
        head_(head),
        rows_max_(rows_max),
        prompt_tokens_max_(prompt_tokens_max),
        prompt_(prompt),
        last_hidden_offset_(last_hidden_offset) {}

  static absl::StatusOr<kernels::Graph> Record(kernels::Stream& stream,
                                               absl::FunctionRef<absl::Status()> enqueue);
  absl::Status PrepareSteps(kernels::Stream& stream, StepFeed& feed, const StateView& state);
  absl::Status PreparePrompts(kernels::Stream& stream, const StateView& state);
  absl::Status EnqueueStep(kernels::Stream& stream, const StepFeed& feed, int32_t bucket,
                           const StateView& state);
  absl::Status EnqueuePrompt(kernels::Stream& stream, int64_t chunks, int64_t tokens, const StateView& state,
                             size_t first, size_t last);
  // Null when these blocks on so many chunks and tokens are no graph.
  const kernels::Graph* PromptGraph(int64_t chunks, int64_t tokens, const StateView& state, size_t first,
                                    size_t last) const;

  const std::span<Block> blocks_;
  const kernels::Embedding& embedding_;
  Head& head_;
  const int64_t rows_max_;
  const int64_t prompt_tokens_max_;
  const PromptPlace prompt_;
  const int64_t last_hidden_offset_;
  kernels::DeviceBuffer step_memory_;
  kernels::StepBuffers buffers_;
  kernels::DeviceBuffer prompt_memory_;
  std::map<int32_t, kernels::Graph> step_graphs_;    // by bucket of rows
  std::map<int64_t, kernels::Graph> prompt_graphs_;  // of one chunk, by bucket of tokens
  StateView recorded_for_;                           // where the slots of the graphs lie
  int64_t prompt_replays_ = 0;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

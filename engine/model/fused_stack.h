// FusedStack: the blocks of a model on the fused path of a GPU (fused_mixer.h).
//
//   decode   one recorded graph per bucket of rows: embedding, every block, head. A batch is filled up to its
//            bucket with rows of kNoSlot; a session that joins or leaves changes entries of the feed alone.
//   prompts  enqueued block by block
//
// Threads: one at a time. Errors: Internal when the device failed.
#ifndef MAMBAD_ENGINE_MODEL_FUSED_STACK_H_
#define MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

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

class FusedStack {
 public:
  // Whether every block has a fused path here. REQUIRES: they are bound.
  static bool OfferedBy(std::span<Block> blocks);
  // Null when a block offers none. `blocks`, `embedding` and `head` must outlive it; slots keep their last
  // hidden row at `last_hidden_offset`.
  static absl::StatusOr<std::unique_ptr<FusedStack>> Create(kernels::Device& device, std::span<Block> blocks,
                                                            const kernels::Embedding& embedding, Head& head,
                                                            const ForwardLimits& limits,
                                                            int64_t last_hidden_offset);

  // Records every bucket's graph for rows from `feed` and slots at `state`, and runs each once without a row,
  // so that no request waits for either.
  absl::Status Prepare(kernels::Stream& stream, StepFeed& feed, const StateView& state);
  // Runs the `rows` rows of `feed`; their logits are then the head's, in order. REQUIRES: Prepare for
  // `state`.
  absl::Status Decode(kernels::Stream& stream, int64_t rows, const StateView& state);
  bool prepared_for(const StateView& state) const { return recorded_for_ == state; }
  // Runs the blocks [first, last) on `chunks` and `residual` (T, M).
  absl::Status Prompt(kernels::Stream& stream, const MixerChunks& chunks, int64_t tokens, float* residual,
                      const StateView& state, size_t first, size_t last);

  const float* residual() const { return buffers_.residual; }  // (B, M)
  size_t bytes() const { return step_memory_.bytes() + prompt_memory_.bytes(); }

 private:
  FusedStack(std::span<Block> blocks, const kernels::Embedding& embedding, Head& head, int64_t rows_max,
             int64_t last_hidden_offset)
      : blocks_(blocks),
        embedding_(embedding),
        head_(head),
        rows_max_(rows_max),
        last_hidden_offset_(last_hidden_offset) {}

  absl::StatusOr<kernels::Graph> Record(kernels::Stream& stream, const StepFeed& feed, int32_t bucket,
                                        const StateView& state);
  absl::Status EnqueueStep(kernels::Stream& stream, const StepFeed& feed, int32_t bucket,
                           const StateView& state);

  const std::span<Block> blocks_;
  const kernels::Embedding& embedding_;
  Head& head_;
  const int64_t rows_max_;
  const int64_t last_hidden_offset_;
  kernels::DeviceBuffer step_memory_;
  kernels::StepBuffers buffers_;
  kernels::DeviceBuffer prompt_memory_;
  std::map<int32_t, kernels::Graph> graphs_;  // by bucket
  StateView recorded_for_;                    // where the slots of the graphs lie
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

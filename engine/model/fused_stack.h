// FusedStack: the blocks of a model on the fused path of a GPU (fused_mixer.h).
//
//   decode   one recorded graph per bucket of rows: embedding, every block, and what the owner adds to the
//   end. A batch
//            is filled up to its bucket with rows of kNoSlot; a session that joins or leaves changes table
//            entries alone.
//   prompts  enqueued block by block
//
// Threads: one at a time. Errors: Internal when the device failed.
#ifndef MAMBAD_ENGINE_MODEL_FUSED_STACK_H_
#define MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/batch_tables.h"
#include "engine/model/block.h"
#include "engine/model/model.h"
#include "kernels/device/stream.h"
#include "kernels/embedding/embedding.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad {

class FusedStack {
 public:
  // Enqueues the end of a decode step of `bucket` rows, whose last hidden rows are at residual().
  using Finish = std::function<absl::Status(int32_t bucket, const StateView& state)>;

  // Whether every block has a fused path here. REQUIRES: they are bound.
  static bool OfferedBy(std::span<Block> blocks);
  // Null when a block offers none. `blocks`, `embedding` and `final_norm` (M) must outlive it.
  static absl::StatusOr<std::unique_ptr<FusedStack>> Create(kernels::Device& device, std::span<Block> blocks,
                                                            const kernels::Embedding& embedding,
                                                            const float* final_norm,
                                                            const ForwardLimits& limits, Finish finish);

  // Records every bucket's graph for slots at `state`, so that no request waits for it.
  absl::Status Prepare(kernels::Stream& stream, const BatchTables& tables, const StateView& state);
  // Runs the decode rows of `tables`.
  absl::Status Decode(kernels::Stream& stream, const BatchTables& tables, int64_t rows,
                      const StateView& state);
  // Runs `chunks` over `residual` (T, M), which holds their embeddings.
  absl::Status Prompt(kernels::Stream& stream, const MixerChunks& chunks, int64_t tokens, float* residual,
                      const StateView& state);

  const float* residual() const { return buffers_.residual; }  // (B, M)
  size_t bytes() const { return step_memory_.bytes() + prompt_memory_.bytes(); }

 private:
  FusedStack(std::span<Block> blocks, const kernels::Embedding& embedding, const float* final_norm,
             int64_t rows_max, Finish finish)
      : blocks_(blocks),
        embedding_(embedding),
        final_norm_(final_norm),
        rows_max_(rows_max),
        finish_(std::move(finish)) {}

  absl::StatusOr<kernels::Graph> Record(kernels::Stream& stream, const BatchTables& tables, int32_t bucket,
                                        const StateView& state);
  absl::Status EnqueueStep(kernels::Stream& stream, const BatchTables& tables, int32_t bucket,
                           const StateView& state);

  const std::span<Block> blocks_;
  const kernels::Embedding& embedding_;
  const float* const final_norm_;
  const int64_t rows_max_;
  const Finish finish_;
  kernels::DeviceBuffer step_memory_;
  kernels::StepBuffers buffers_;
  kernels::DeviceBuffer prompt_memory_;
  std::map<int32_t, kernels::Graph> graphs_;  // by bucket
  StateView recorded_for_;                    // where the slots of the graphs lie
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_FUSED_STACK_H_

// FusedMixer: what a mixer offers where a GPU has kernels for its whole block, norm and residual sum
// included. Its sums have an order of their own, so a model takes this path for every row and token, or for
// none.
#ifndef MAMBAD_ENGINE_MODEL_FUSED_MIXER_H_
#define MAMBAD_ENGINE_MODEL_FUSED_MIXER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/mixer.h"
#include "kernels/base/slots.h"
#include "kernels/device/stream.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad {

class FusedMixer;

// A block's part of a decode step. The rows stay in `buffers` from the embedding to the head.
struct FusedBlockStep {
  FusedMixer* mixer = nullptr;  // this block's
  kernels::StepBuffers buffers;
  int32_t rows = 0;                          // a bucket (kernels::IsStepBucket)
  const int32_t* slot_index = nullptr;       // (rows), kNoSlot where the bucket is not full
  float norm_epsilon = 0;                    // of this block's norm
  const float* next_norm_weight = nullptr;   // (M): of the next block, in the last one of the final norm
  std::span<const kernels::SlotView> state;  // as MixerCall, of FusedState()
  kernels::SlotView last_hidden;             // (M) per slot: the last block's; base null in the others
};

// Packed prompt tokens through a block. There may be more tokens than the last offset says, without a bit's
// difference, and a call may be recorded and run again when the tables say something else.
struct FusedPromptCall {
  kernels::Stream* stream = nullptr;
  float* residual = nullptr;  // (T, M): read by the first block, updated by the last
  int64_t tokens = 0;
  MixerChunks chunks;
  const float* norm_weight = nullptr;       // (M)
  const float* next_norm_weight = nullptr;  // (M): of the block that runs next with these chunks; null: none
  float norm_epsilon = 0;
  std::span<const kernels::SlotView> state;
  void* workspace = nullptr;  // FusedPromptBytes; shared by the blocks of one pass
  bool first = false;         // of the blocks that run with these chunks: the workspace knows nothing of them
};

class FusedMixer {
 public:
  virtual ~FusedMixer() = default;

  // Takes the place of State(): the same tensors in the same order.
  virtual std::vector<StateSpec> FusedState() const = 0;
  virtual kernels::StepWidths FusedWidths() const = 0;
  // A decode step of all blocks, in order. REQUIRES: their mixers are of this one's kind.
  virtual absl::Status FusedStep(kernels::Stream& stream, std::span<const FusedBlockStep> blocks) = 0;
  virtual size_t FusedPromptBytes(int64_t tokens, int64_t chunks) const = 0;
  virtual absl::Status FusedPrompt(const FusedPromptCall& call) = 0;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_FUSED_MIXER_H_

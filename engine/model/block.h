// Block: one layer of the residual stream, residual += mixer(rms_norm(residual)).
#ifndef MAMBAD_ENGINE_MODEL_BLOCK_H_
#define MAMBAD_ENGINE_MODEL_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/fused_mixer.h"
#include "engine/model/mixer.h"
#include "engine/model/state_layout.h"
#include "engine/model/weight_loader.h"
#include "kernels/device/stream.h"

namespace mambad {

// What the blocks of a model share for one pass over B rows or T packed tokens.
struct BlockCall {
  kernels::Stream* stream = nullptr;
  float* residual = nullptr;   // (rows, M)
  float* normed = nullptr;     // (rows, M), scratch
  float* workspace = nullptr;  // of the mixer
  int64_t rows = 0;
  StateView state;
};

// Threads: as Mixer.
class Block {
 public:
  Block(int64_t layer, int64_t d_model, float norm_epsilon, std::unique_ptr<Mixer> mixer)
      : layer_(layer), d_model_(d_model), norm_epsilon_(norm_epsilon), mixer_(std::move(mixer)) {}

  // Full names: "backbone.layers.3.norm.weight", ...
  std::vector<TensorSpec> Tensors() const;
  const Mixer& mixer() const { return *mixer_; }

  absl::Status Bind(WeightLoader& loader);
  // Once the layout of the whole slot is known; again if it changes.
  void PlaceState(const StateLayout& layout);

  // The fused path of a GPU; null: there is none for this mixer and device. Steps and calls come without
  // mixer, norm and state, which are the block's to fill in.
  FusedMixer* fused() { return mixer_->fused(); }
  // `step`, whose state is valid until the next call.
  FusedBlockStep FusedStep(FusedBlockStep step, const StateView& state);
  absl::Status FusedPrompt(FusedPromptCall call, const StateView& state);
  const float* norm_weight() const { return norm_weight_.as<float>(); }

  absl::Status Step(const BlockCall& call, const int32_t* slot_index);
  absl::Status Prefill(const BlockCall& call, const MixerChunks& chunks);

 private:
  std::string Prefix() const;
  absl::Status Norm(const BlockCall& call);
  MixerCall CallOf(const BlockCall& call, std::span<const kernels::SlotView> state) const;
  // What Step, or Prefill, sees of this layer's state.
  std::span<const kernels::SlotView> StepViews(const StateView& state);
  std::span<const kernels::SlotView> PrefillViews(const StateView& state);

  const int64_t layer_;
  const int64_t d_model_;
  const float norm_epsilon_;
  std::unique_ptr<Mixer> mixer_;
  kernels::DeviceBuffer norm_weight_;
  // Of this layer; the memory that the last call named is filled in by each call.
  std::vector<kernels::SlotView> step_views_;
  std::vector<kernels::SlotView> prefill_views_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_BLOCK_H_

// MixerModel: the stack of blocks between embedding and head.
//
//   residual = embedding(tokens)
//   residual = residual + mixer_l(rms_norm_l(residual))     for each layer l
//   logits   = lm_head(rms_norm_f(residual))                for the rows that a LogitsTask names
//
// The residual stream is fp32. The residual row of a slot's last token is kept in the slot (last_hidden):
// norm and head are row-wise, so the next-token logits of an idle session come out of it with the same bits.
#ifndef MAMBAD_ENGINE_MODEL_MIXER_MODEL_H_
#define MAMBAD_ENGINE_MODEL_MIXER_MODEL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/batch_tables.h"
#include "engine/model/block.h"
#include "engine/model/fused_stack.h"
#include "engine/model/head.h"
#include "engine/model/launch_order.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/step_feed.h"
#include "engine/model/weight_source.h"
#include "kernels/device/stream.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/narrow_state/narrow_state.h"
#include "kernels/row_copy/row_copy.h"

namespace mambad {

// The layers of a model without weights: what a config asks of a checkpoint.
struct ModelPlan {
  static absl::StatusOr<ModelPlan> Of(const ModelConfig& config,
                                      kernels::DType state_dtype = kernels::DType::kF32);

  ModelConfig config;
  std::vector<Block> blocks;        // not bound
  std::vector<TensorSpec> tensors;  // of the whole model
  StateLayout state_layout;
  uint64_t parameters = 0;
};

// Bytes of weights taken so far and in all.
using LoadProgress = std::function<void(uint64_t done, uint64_t total)>;

class MixerModel : public Model {
 public:
  // Checks every tensor, then takes the weights one by one. Errors: those of `weights`; RESOURCE_EXHAUSTED
  // when the device has no room; INVALID_ARGUMENT for limits out of range.
  static absl::StatusOr<std::unique_ptr<MixerModel>> Create(ModelPlan plan, WeightSource& weights,
                                                            std::unique_ptr<kernels::Device> device,
                                                            kernels::WeightPrecision precision,
                                                            const ForwardLimits& limits,
                                                            const LoadProgress& progress);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return state_layout_; }
  const ForwardLimits& limits() const override { return limits_; }
  kernels::Device& device() const override { return *device_; }
  absl::Status Prepare(const StateView& state) override;
  absl::Status Forward(const Batch& batch, const StateView& state,
                       std::vector<LogitsResult>* results) override;
  uint32_t parts() const override { return layers() + 1; }
  absl::Status ForwardParts(const Batch& batch, const StateView& state, uint32_t first, uint32_t last,
                            std::vector<LogitsResult>* results) override;
  // Ahead of the host on a GPU's fused path, unless somebody observes the logits.
  int launches_max() const override;
  absl::Status Launch(const Batch& batch, const StateView& state) override;
  absl::Status Collect(std::vector<LogitsResult>* results) override;

  // Empty when a GPU's fused path serves the model, else why the general one does.
  std::string_view why_not_fused() const { return blocks_.front().mixer().why_not_fused(); }

  // Prompt passes whose blocks were launched as a whole, so far (FusedStack).
  int64_t prompt_replays() const { return fused_ != nullptr ? fused_->prompt_replays() : 0; }

  // Every logits row of the following Forwards, for tests.
  void ObserveLogits(LogitsObserver observer) { head_->Observe(std::move(observer)); }

 private:
  MixerModel() = default;

  absl::Status Bind(ModelPlan plan, WeightSource& weights, kernels::WeightPrecision precision,
                    const LoadProgress& progress);
  absl::Status AllocateWorkspace();
  void Describe(const ModelConfig& config, uint64_t parameters, const WeightSource& weights,
                kernels::WeightPrecision precision, uint64_t weight_bytes, uint64_t decode_weight_bytes);

  // A range of a prompt pass's parts.
  struct Parts {
    uint32_t first;
    uint32_t last;
  };
  Parts AllParts() const { return {0, parts()}; }
  uint32_t layers() const { return static_cast<uint32_t>(blocks_.size()); }
  // What Forward and ForwardParts share: decode rows, then these parts of the prompts.
  absl::Status Run(const Batch& batch, const StateView& state, Parts range,
                   std::vector<LogitsResult>* results);
  // `resumes`: chunks may have been given up (kNoSlot).
  absl::Status Check(const Batch& batch, const StateView& state, bool resumes = false) const;
  absl::Status CheckTasks(const Batch& batch, const StateView& state) const;
  absl::Status ClaimSlots(const Batch& batch, const StateView& state, bool resumes = false);
  // Whether Launch takes it.
  bool IsStep(const Batch& batch) const;
  absl::Status ClaimSlot(int32_t slot, const StateView& state);
  absl::Status CheckWide(const Batch& batch, const StateView& state, bool resumes) const;
  absl::Status RunDecode(const Batch& batch, const StateView& state);
  const float* DecodeResidual() const { return fused_ != nullptr ? fused_->residual() : residual_; }
  absl::Status RunPrefill(int64_t tokens, int64_t chunks, const StateView& state, Parts range);
  MixerChunks PackedChunks(int64_t chunks) const;  // as the tables have them
  // Of a narrow state: rows of the batch consume tokens (offsets; null: one each), prompts begin and end.
  absl::Status AdvanceKeys(const StateView& state, const int32_t* slots, const int64_t* offsets,
                           int64_t rows);
  absl::Status WidenBegun(const StateView& state, int64_t chunks);
  absl::Status RoundEnded(const StateView& state, int64_t chunks);
  kernels::NarrowStateArgs NarrowArgs(const StateView& state, const int32_t* slots, int64_t chunks) const;
  absl::Status SaveHidden(const kernels::RowTable& from, const int32_t* from_index, const StateView& state,
                          const int32_t* slots, int64_t rows);
  // Copies rows to where the head reads them: position p from row index[p], unless that is -1.
  absl::Status Gather(const kernels::RowTable& from, const int32_t* index, size_t tasks);
  int64_t RowBytes() const { return info_.d_model * static_cast<int64_t>(sizeof(float)); }
  kernels::RowTable RowsOf(const float* rows) const;
  kernels::RowTable LastHidden(const StateView& state) const;
  BlockCall CallFor(float* residual, int64_t rows, const StateView& state);

  // Constant after Create. The device outlives everything that lives on it.
  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
  ModelInfo info_;
  StateLayout state_layout_;
  ForwardLimits limits_;
  std::vector<Block> blocks_;
  std::unique_ptr<Head> head_;
  kernels::Embedding embedding_;

  // Scratch of one Forward, but for prompt_residual_, which lives from the first part of a pass to its last.
  kernels::DeviceBuffer workspace_;
  float* residual_ = nullptr;         // (decode_rows, M); the fused path has its own
  float* prompt_residual_ = nullptr;  // (prompt_tokens, M)
  float* normed_ = nullptr;           // (rows_max, M)
  float* head_hidden_ = nullptr;      // (tasks_max, M)
  float* mixer_workspace_ = nullptr;  // WorkspaceFloats(rows_max)
  BatchTables tables_;
  std::unique_ptr<FusedStack> fused_;  // null: the general path
  StepFeed feed_;                      // of the fused path
  struct LaunchedStep {
    kernels::Event done;
    size_t rows = 0;
  };
  std::array<LaunchedStep, StepFeed::kStepsMax> launched_;
  LaunchOrder order_;
  int oldest_ = 0;                     // of launched_
  int waiting_ = 0;                    // launched and not collected
  std::vector<uint8_t> slot_claimed_;  // by slot: named by a row of this batch
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_MIXER_MODEL_H_

// OracleModel: a Model whose state is a rolling hash of everything that the state has consumed, in order and
// by which path, with its position. A step that is lost, doubled, swapped, stale or done in the wrong slot
// changes every later token, so a test of the engine only compares tokens and state bytes with the plain
// functions below.
//
// It uses its device as a real model does: a batch is copied there, a step (on a GPU a recorded graph) reads
// it and the slots, and what the step leaves is copied back and waited for.
//
// Faults: consuming kPoisonToken makes a state non-finite for good, as a NaN would; FailAfter makes the
// device fail.
#ifndef MAMBAD_TESTS_SUPPORT_ORACLE_MODEL_H_
#define MAMBAD_TESTS_SUPPORT_ORACLE_MODEL_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/launch_order.h"
#include "engine/model/model.h"
#include "kernels/device/device.h"
#include "kernels/device/stream.h"

namespace mambad {

// What a slot holds. All zero at position 0.
struct OracleState {
  uint64_t position = 0;
  uint64_t hash = 0;
  uint64_t poisoned = 0;  // 0 or 1
  uint64_t last_hidden = 0;

  friend bool operator==(const OracleState&, const OracleState&) = default;
};

class OracleModel : public Model {
 public:
  static constexpr uint32_t kVocab = 101;
  static constexpr uint32_t kEos = 0;
  // Drawn only where a logit_bias names it, and then once in kPoisonOneIn draws.
  static constexpr uint32_t kPoisonToken = kVocab - 1;
  static constexpr uint64_t kPoisonOneIn = 8;

  // How it runs ahead: not at all; or steps happen when they are launched, or as late as when they are
  // collected. A device may take any time in between.
  enum class Ahead { kNo, kEarly, kLate };

  // On the CPU. `narrow`: it reads prompts in wide slots.
  explicit OracleModel(ForwardLimits limits = {}, Ahead ahead = Ahead::kNo, bool narrow = false);
  // On the GPU of tests/support/fake_gpu.h. Errors: the GPU's.
  static absl::StatusOr<std::shared_ptr<OracleModel>> OnGpu(ForwardLimits limits = {},
                                                            Ahead ahead = Ahead::kNo);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return layout_; }
  const ForwardLimits& limits() const override { return limits_; }
  kernels::Device& device() const override { return *device_; }
  absl::Status Forward(const Batch& batch, const StateView& state,
                       std::vector<LogitsResult>* results) override;

  uint32_t parts() const override { return parts_; }
  // Between the parts of a pass its chunks' slots hold what nobody may read.
  absl::Status ForwardParts(const Batch& batch, const StateView& state, uint32_t first, uint32_t last,
                            std::vector<LogitsResult>* results) override;

  int launches_max() const override { return ahead_ == Ahead::kNo ? 0 : 2; }
  absl::Status Launch(const Batch& batch, const StateView& state) override;
  absl::Status Collect(std::vector<LogitsResult>* results) override;

  // The plain functions: the state after one more token, and a draw from the logits after a state.
  static OracleState Consume(const OracleState& state, uint32_t token, bool as_prompt);
  static uint32_t Draw(const OracleState& state, const SamplingRow& row);
  static uint32_t Greedy(const OracleState& state);
  static float Logprob(const OracleState& state, uint32_t token);
  // The same, over whole lists.
  static OracleState ConsumePrompt(OracleState state, std::span<const uint32_t> tokens);
  static OracleState Parse(std::span<const std::byte> bytes);

  // Of a pass, between passes.
  void SetParts(uint32_t parts) { parts_ = parts; }
  // The next `calls` calls of Forward, ForwardParts and Collect succeed, all later ones fail. None: none
  // fails.
  void FailAfter(std::optional<uint64_t> calls) { fail_after_ = calls; }
  uint64_t decode_tokens() const { return decode_tokens_; }
  uint64_t prompt_tokens() const { return prompt_tokens_; }
  uint64_t forwards() const { return forwards_; }

 private:
  // A step between Launch and Collect: the batch with sampling rows of its own.
  struct LaunchedStep {
    Batch batch;
    std::deque<SamplingRow> sampling;
    StateView view;
    std::vector<LogitsResult> results;
  };

  OracleModel(ForwardLimits limits, Ahead ahead, std::unique_ptr<kernels::Device> device);
  absl::Status Allocate();
  void Check(const Batch& batch, const StateView& state, bool resumes = false) const;
  absl::Status Upload(const Batch& batch);
  void Step(const Batch& shape, const StateView& view);
  absl::Status Run(const Batch& batch, const StateView& view, std::vector<LogitsResult>* results,
                   bool resumes = false);
  absl::Status RunStep(LaunchedStep* step);
  bool Fails();

  const ForwardLimits limits_;
  const Ahead ahead_;
  std::unique_ptr<kernels::Device> device_;  // outlives what lives on it
  std::unique_ptr<kernels::Stream> stream_;
  kernels::Graph graph_;          // of Step, on a GPU
  kernels::DeviceBuffer tables_;  // the words of a batch
  kernels::DeviceBuffer hidden_;  // (tasks) the state that each task asks about
  kernels::HostBuffer staging_;   // the same, on the host
  std::deque<LaunchedStep> steps_;
  uint32_t parts_ = 1;
  uint32_t parts_done_ = 0;              // of the pass under way
  std::vector<OracleState> pass_begin_;  // (C): what its chunks began with
  LaunchOrder order_;
  std::map<int32_t, uint32_t> drawn_;  // by slot
  ModelInfo info_;
  StateLayout layout_;
  std::optional<uint64_t> fail_after_;
  uint64_t decode_tokens_ = 0;
  uint64_t prompt_tokens_ = 0;
  uint64_t forwards_ = 0;
};

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_ORACLE_MODEL_H_

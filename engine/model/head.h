// Head: hidden rows to logits to samples and log-probabilities.
//
//   logits = lm_head(rms_norm_f(hidden))
//
// Rows pass in blocks, so the logits of a whole vocabulary exist for one block alone: small on the CPU; on a
// GPU as large as any decode batch, which reads the weight once. The bits of a row depend on neither its
// block nor its neighbours.
#ifndef MAMBAD_ENGINE_MODEL_HEAD_H_
#define MAMBAD_ENGINE_MODEL_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/schedule/batch.h"
#include "kernels/device/stream.h"
#include "kernels/linear/linear.h"
#include "kernels/mamba_layer/step_buffers.h"
#include "kernels/sampling/sampler.h"

namespace mambad {

// Called with the raw logits of each task, for tests: index into the tasks, (V).
using LogitsObserver = std::function<void(size_t task, std::span<const float> logits)>;

// One thread at a time.
class Head {
 public:
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr int64_t kGpuRowsPerBlock = 512;

  // `norm_weight` (M). Allocates everything that Run needs for up to `tasks_max` tasks.
  static absl::StatusOr<std::unique_ptr<Head>> Create(kernels::Device& device, kernels::PackedLinear linear,
                                                      kernels::DeviceBuffer norm_weight, float norm_epsilon,
                                                      int64_t tasks_max);
  // Takes the head's product of a GPU's fused path from now on, whose bits differ from the general one's.
  absl::Status Fuse(kernels::Device& device);

  // The order in which Run wants the rows of `tasks`: position p stands for tasks[result[p]]. Valid until the
  // next call. REQUIRES: tasks.size() <= tasks_max.
  std::span<const uint32_t> Arrange(std::span<const LogitsTask> tasks);

  // Enqueues the logits of `rows` hidden rows (rows, M), at most those of a block, to where Run finds them.
  absl::Status Logits(kernels::Stream& stream, const float* hidden, int64_t rows);

  // The same for the rows of a fused decode step, a bucket, as its last block left them in `buffers`.
  absl::Status StepLogits(kernels::Stream& stream, const kernels::StepBuffers& buffers, int32_t rows);

  // Enqueues what tasks[i] draws from row i of those logits. Row i's token also goes to
  // drawn[places[i]], and tasks with one_unseen find there the token that they do not count yet. A task
  // without sampling draws too: whether its row is finite comes of it. REQUIRES: no task has a target.
  absl::Status EnqueueDraws(kernels::Stream& stream, std::span<const LogitsTask> tasks, int32_t* drawn,
                            std::span<const int32_t> places);
  // The results of the oldest draws. REQUIRES: the stream has finished them; as many as they had tasks.
  void TakeDraws(std::span<LogitsResult> results);

  // Row p of `hidden` belongs to tasks[Arrange(tasks)[p]]. REQUIRES: Arrange(tasks) was called before;
  // `results` of the same size.
  absl::Status Run(kernels::Stream& stream, const float* hidden, std::span<const LogitsTask> tasks,
                   std::span<LogitsResult> results);

  const kernels::PackedLinear& linear() const { return linear_; }
  const float* norm_weight() const { return norm_weight_.as<float>(); }
  size_t workspace_bytes() const { return workspace_.bytes() + step_memory_.bytes() + sampler_->bytes(); }
  void Observe(LogitsObserver observer) { observer_ = std::move(observer); }
  bool observed() const { return observer_ != nullptr; }
  // Shows row i of the logits as that of task tasks[i]. REQUIRES: observed().
  absl::Status ShowLogits(kernels::Stream& stream, std::span<const uint32_t> tasks);

 private:
  Head() = default;

  absl::Status RunBlock(kernels::Stream& stream, const float* hidden, std::span<const LogitsTask> tasks,
                        std::span<LogitsResult> results, int64_t begin, int64_t end);
  absl::Status SampleRows(kernels::Stream& stream, const float* logits, std::span<const LogitsTask> tasks,
                          std::span<const uint32_t> rows, std::span<LogitsResult> results);
  kernels::SampleArgs ArgsOf(const float* logits);
  void ClearArgs();
  void AddToArgs(const LogitsTask& task);
  absl::Status ScoreRows(kernels::Stream& stream, const float* logits, std::span<const LogitsTask> tasks,
                         std::span<const uint32_t> rows, std::span<LogitsResult> results);

  kernels::PackedLinear linear_;
  kernels::DeviceBuffer norm_weight_;
  float norm_epsilon_ = 0;
  int64_t rows_per_block_ = 0;
  int64_t logits_stride_ = 0;
  kernels::DeviceBuffer
      workspace_;  // (rows_per_block, M) normed, then (rows_per_block, logits_stride) logits
  float* normed_ = nullptr;
  float* logits_ = nullptr;
  kernels::DeviceBuffer step_memory_;  // of step_buffers_; empty on the general path
  kernels::StepBuffers step_buffers_;
  std::unique_ptr<kernels::Sampler> sampler_;
  LogitsObserver observer_;

  // Task indices: those that draw, then those that score. The vectors below keep their capacity from call to
  // call.
  std::vector<uint32_t> order_;
  size_t draws_ = 0;
  std::vector<kernels::SamplingParams> params_;
  std::vector<kernels::SamplingKey> keys_;
  std::vector<kernels::LogitBias> biases_;
  std::vector<int64_t> bias_offsets_;
  std::vector<kernels::TokenCount> counts_;
  std::vector<int64_t> count_offsets_;
  std::vector<int32_t> suppressed_;
  std::vector<int64_t> suppressed_offsets_;
  std::vector<uint8_t> unseen_;
  std::vector<kernels::SampledToken> sampled_;
  std::vector<int32_t> targets_;
  std::vector<kernels::TokenScore> scores_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_HEAD_H_

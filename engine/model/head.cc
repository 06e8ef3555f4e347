#include "engine/model/head.h"

#include <algorithm>
#include <utility>

#include "engine/model/workspace.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/mamba_layer/mamba_layer.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mambad {
namespace {

// Appends one row to a ragged list.
template <class T>
void AppendRow(std::span<const T> row, std::vector<T>* items, std::vector<int64_t>* offsets) {
  if (offsets->empty()) offsets->push_back(0);
  items->insert(items->end(), row.begin(), row.end());
  offsets->push_back(static_cast<int64_t>(items->size()));
}

void CopyTop(const kernels::TopLogprobs& top, uint32_t count_max, LogitsResult* result) {
  result->top.clear();
  const uint32_t count = std::min(count_max, static_cast<uint32_t>(top.count));
  for (uint32_t i = 0; i < count; ++i)
    result->top.emplace_back(static_cast<uint32_t>(top.tokens[i].token), top.tokens[i].logprob);
}

void CopyDraw(const kernels::SampledToken& sampled, LogitsResult* result) {
  result->finite = sampled.finite;
  result->token = static_cast<uint32_t>(sampled.token);
  result->logprob = sampled.logprob;
  CopyTop(sampled.top, kernels::kMaxTopLogprobs, result);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Head>> Head::Create(kernels::Device& device, kernels::PackedLinear linear,
                                                   kernels::DeviceBuffer norm_weight, float norm_epsilon,
                                                   int64_t tasks_max) {
  std::unique_ptr<Head> head(new Head());
  head->linear_ = std::move(linear);
  head->norm_weight_ = std::move(norm_weight);
  head->norm_epsilon_ = norm_epsilon;
  head->rows_per_block_ = std::min(device.is_gpu() ? kGpuRowsPerBlock : kRowsPerBlock, tasks_max);
  head->logits_stride_ = AlignedFloats(head->linear_.rows());
  const int64_t normed = AlignedFloats(head->rows_per_block_ * head->linear_.cols());
  // A GPU's fused path computes whole buckets of rows.
  const int64_t logits_rows =
      device.is_gpu() ? kernels::StepBucket(static_cast<int>(head->rows_per_block_)) : head->rows_per_block_;
  const int64_t logits = logits_rows * head->logits_stride_;
  MAMBAD_ASSIGN_OR_RETURN(head->workspace_, device.Allocate((normed + logits) * sizeof(float), "workspace"));
  head->normed_ = head->workspace_.as<float>();
  head->logits_ = head->normed_ + normed;
  MAMBAD_ASSIGN_OR_RETURN(head->sampler_,
                          kernels::Sampler::Create(device, {.vocab = head->linear_.rows(),
                                                            .stride = head->logits_stride_,
                                                            .rows_max = head->rows_per_block_}));
  head->order_.reserve(static_cast<size_t>(tasks_max));
  head->sampled_.resize(static_cast<size_t>(head->rows_per_block_));
  head->scores_.resize(static_cast<size_t>(head->rows_per_block_));
  return head;
}

std::span<const uint32_t> Head::Arrange(std::span<const LogitsTask> tasks) {
  order_.clear();
  for (uint32_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].sampling != nullptr) order_.push_back(i);
  }
  draws_ = order_.size();
  for (uint32_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].sampling == nullptr) order_.push_back(i);
  }
  return order_;
}

absl::Status Head::Run(kernels::Stream& stream, const float* hidden, std::span<const LogitsTask> tasks,
                       std::span<LogitsResult> results) {
  MAMBAD_CHECK(results.size() == tasks.size() && order_.size() == tasks.size());
  const int64_t count = static_cast<int64_t>(tasks.size());
  for (int64_t begin = 0; begin < count; begin += rows_per_block_) {
    const int64_t end = std::min(count, begin + rows_per_block_);
    MAMBAD_RETURN_IF_ERROR(RunBlock(stream, hidden, tasks, results, begin, end));
  }
  return absl::OkStatus();
}

absl::Status Head::Fuse(kernels::Device& device) {
  const kernels::StepWidths widths = {.d_model = static_cast<int32_t>(linear_.cols())};
  const int32_t rows = kernels::StepBucket(static_cast<int32_t>(rows_per_block_));
  MAMBAD_ASSIGN_OR_RETURN(step_memory_, device.Allocate(kernels::StepBufferBytes(rows, widths), "workspace",
                                                        kernels::Fill::kZero));
  step_buffers_ = kernels::BindStepBuffers(step_memory_.as<std::byte>(), rows, widths);
  return absl::OkStatus();
}

absl::Status Head::Logits(kernels::Stream& stream, const float* hidden, int64_t rows) {
  if (step_memory_.bytes() > 0) {
    return kernels::HeadRows(stream, linear_,
                             {.hidden = hidden,
                              .norm_weight = norm_weight(),
                              .norm_eps = norm_epsilon_,
                              .rows = rows,
                              .buffers = step_buffers_,
                              .logits = logits_,
                              .logits_stride = logits_stride_});
  }
  const int64_t d_model = linear_.cols();
  MAMBAD_RETURN_IF_ERROR(kernels::RmsNorm(stream, {.x = hidden,
                                                   .x_stride = d_model,
                                                   .weight = norm_weight(),
                                                   .y = normed_,
                                                   .y_stride = d_model,
                                                   .rows = rows,
                                                   .width = d_model,
                                                   .eps = norm_epsilon_}));
  return kernels::Linear(stream, linear_,
                         {.x = normed_, .ldx = d_model, .y = logits_, .ldy = logits_stride_, .rows = rows});
}

absl::Status Head::StepLogits(kernels::Stream& stream, const kernels::StepBuffers& buffers, int32_t rows) {
  return kernels::StepHead(stream, linear_,
                           {.buffers = buffers,
                            .rows = rows,
                            .norm_eps = norm_epsilon_,
                            .logits = logits_,
                            .logits_stride = logits_stride_});
}

absl::Status Head::ShowLogits(kernels::Stream& stream, std::span<const uint32_t> tasks) {
  std::vector<float> logits(static_cast<size_t>(linear_.rows()));
  for (size_t row = 0; row < tasks.size(); ++row) {
    const float* from = logits_ + static_cast<int64_t>(row) * logits_stride_;
    MAMBAD_RETURN_IF_ERROR(kernels::CopyToHost(stream, logits.data(), from, logits.size() * sizeof(float)));
    MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
    observer_(tasks[row], logits);
  }
  return absl::OkStatus();
}

absl::Status Head::EnqueueDraws(kernels::Stream& stream, std::span<const LogitsTask> tasks, int32_t* drawn,
                                std::span<const int32_t> places) {
  ClearArgs();
  unseen_.clear();
  for (const LogitsTask& task : tasks) {
    MAMBAD_CHECK(!task.target);
    AddToArgs(task);
    unseen_.push_back(task.one_unseen ? 1 : 0);
  }
  return sampler_->Enqueue(stream, ArgsOf(logits_), {.tokens = drawn, .places = places, .unseen = unseen_});
}

void Head::TakeDraws(std::span<LogitsResult> results) {
  const std::span<kernels::SampledToken> sampled(sampled_.data(), results.size());
  sampler_->Take(sampled);
  for (size_t i = 0; i < results.size(); ++i) CopyDraw(sampled[i], &results[i]);
}

absl::Status Head::RunBlock(kernels::Stream& stream, const float* hidden, std::span<const LogitsTask> tasks,
                            std::span<LogitsResult> results, int64_t begin, int64_t end) {
  const int64_t rows = end - begin;
  const std::span<const uint32_t> order(order_.data() + begin, static_cast<size_t>(rows));
  MAMBAD_RETURN_IF_ERROR(Logits(stream, hidden + begin * linear_.cols(), rows));
  if (observer_) MAMBAD_RETURN_IF_ERROR(ShowLogits(stream, order));
  const int64_t draws = std::clamp<int64_t>(static_cast<int64_t>(draws_) - begin, 0, rows);
  if (draws > 0) MAMBAD_RETURN_IF_ERROR(SampleRows(stream, logits_, tasks, order.first(draws), results));
  if (draws < rows)
    MAMBAD_RETURN_IF_ERROR(
        ScoreRows(stream, logits_ + draws * logits_stride_, tasks, order.subspan(draws), results));
  return absl::OkStatus();
}

void Head::ClearArgs() {
  params_.clear();
  keys_.clear();
  biases_.clear();
  bias_offsets_.clear();
  counts_.clear();
  count_offsets_.clear();
  suppressed_.clear();
  suppressed_offsets_.clear();
}

void Head::AddToArgs(const LogitsTask& task) {
  static const SamplingRow kGreedy = {.params = {.temperature = 0}};
  const SamplingRow& row = task.sampling != nullptr ? *task.sampling : kGreedy;
  kernels::SamplingKey key = row.key;
  if (task.one_unseen) ++key.token_index;
  params_.push_back(row.params);
  keys_.push_back(key);
  AppendRow<kernels::LogitBias>(row.logit_bias, &biases_, &bias_offsets_);
  AppendRow<kernels::TokenCount>(row.token_counts, &counts_, &count_offsets_);
  AppendRow<int32_t>(row.SuppressedAt(key.token_index), &suppressed_, &suppressed_offsets_);
}

kernels::SampleArgs Head::ArgsOf(const float* logits) {
  return {.logits = logits,
          .params = params_,
          .keys = keys_,
          .logit_bias = {biases_, bias_offsets_},
          .token_counts = {counts_, count_offsets_},
          .suppressed = {suppressed_, suppressed_offsets_}};
}

absl::Status Head::SampleRows(kernels::Stream& stream, const float* logits, std::span<const LogitsTask> tasks,
                              std::span<const uint32_t> rows, std::span<LogitsResult> results) {
  ClearArgs();
  for (const uint32_t task : rows) AddToArgs(tasks[task]);
  kernels::SampleArgs args = ArgsOf(logits);
  args.results = std::span(sampled_.data(), rows.size());
  MAMBAD_RETURN_IF_ERROR(sampler_->Sample(stream, args));
  for (size_t i = 0; i < rows.size(); ++i) CopyDraw(sampled_[i], &results[rows[i]]);
  return absl::OkStatus();
}

absl::Status Head::ScoreRows(kernels::Stream& stream, const float* logits, std::span<const LogitsTask> tasks,
                             std::span<const uint32_t> rows, std::span<LogitsResult> results) {
  targets_.clear();
  uint32_t top_max = 0;
  for (const uint32_t task : rows) {
    targets_.push_back(static_cast<int32_t>(tasks[task].target.value_or(0)));
    top_max = std::max(top_max, tasks[task].top_logprobs);
  }
  const std::span<kernels::TokenScore> scores(scores_.data(), rows.size());
  MAMBAD_RETURN_IF_ERROR(sampler_->Score(stream, {.logits = logits,
                                                  .targets = targets_,
                                                  .top_logprobs = static_cast<int32_t>(top_max),
                                                  .results = scores}));
  for (size_t i = 0; i < rows.size(); ++i) {
    LogitsResult& result = results[rows[i]];
    result.finite = scores[i].finite;
    result.target_logprob = scores[i].logprob;
    result.target_is_greedy = scores[i].is_greedy;
    CopyTop(scores[i].top, tasks[rows[i]].top_logprobs, &result);
  }
  return absl::OkStatus();
}

}  // namespace mambad

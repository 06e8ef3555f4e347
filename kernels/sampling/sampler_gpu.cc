// Sampler on a GPU: writes a table of the rows, sends it, launches, and reads what comes back.
#include <algorithm>
#include <cstdint>

#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/sampling/sampler.h"
#include "kernels/sampling/sampling_cuda.h"
#include "kernels/sampling/sampling_table_writer.h"

namespace mambad::kernels {
namespace {

// List entries of one launch: at least those of one row, since each of its three lists holds a token once.
std::int64_t EntriesMax(std::int64_t vocab) { return std::max(std::int64_t{1} << 20, 3 * vocab); }

std::int64_t ListEntries(const SampleArgs& args, std::int64_t row) {
  return static_cast<std::int64_t>(args.logit_bias.Row(row).size() + args.token_counts.Row(row).size() +
                                   args.suppressed.Row(row).size());
}

// The end of the longest run of rows from `begin` on whose lists fit one launch.
std::int64_t EndOfLaunch(const SampleArgs& args, std::int64_t begin, std::int64_t entries_max) {
  const auto rows = static_cast<std::int64_t>(args.params.size());
  std::int64_t end = begin;
  for (std::int64_t entries = 0; end < rows; ++end) {
    entries += ListEntries(args, end);
    if (entries > entries_max) break;
  }
  return end;
}

template <class Row>
TopLogprobs TopOf(const Row& row) {
  TopLogprobs top = {.count = row.top_count};
  for (std::int32_t n = 0; n < row.top_count; ++n) top.tokens[n] = {row.top_token[n], row.top_logprob[n]};
  return top;
}

SampledToken Unpack(const SampledRow& row) {
  return {.token = row.token, .logprob = row.logprob, .finite = row.finite != 0, .top = TopOf(row)};
}

TokenScore Unpack(const ScoredRow& row) {
  return {.logprob = row.logprob,
          .rank = row.rank,
          .is_greedy = row.rank == 1,
          .finite = row.finite != 0,
          .top = TopOf(row)};
}

class GpuSampler final : public Sampler {
 public:
  GpuSampler(Device& device, const LogitsShape& shape) : Sampler(device, shape) {}
  absl::Status Allocate(Device& device);

  std::size_t bytes() const override { return inputs_.bytes() + results_.bytes() + row_copies_.bytes(); }

 private:
  absl::Status SampleRows(Stream& stream, const SampleArgs& args) override;
  absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) override;

  // Enqueue gives the stream a launch's copies and kernel; when they have finished, Collect reads the
  // results. In between the host must leave the buffers alone. Rows [begin, end) of the arguments are one
  // launch.
  absl::Status EnqueueSample(Stream& stream, const SampleArgs& args, std::int64_t begin, std::int64_t end);
  absl::Status EnqueueScore(Stream& stream, const ScoreArgs& args);
  template <class Row, class Result>
  void Collect(std::span<Result> results) const {
    const Row* rows = host_results_.as<Row>();
    std::transform(rows, rows + results.size(), results.begin(), [](const Row& row) { return Unpack(row); });
  }

  SamplingPlan PlanFor(std::int64_t rows) const { return PlanSampling(hardware_, shape().vocab, rows); }

  SamplingDevice hardware_;
  // A SamplingTable of the launch's rows, or its targets.
  HostBuffer host_inputs_;
  DeviceBuffer inputs_;
  // SampledRow or ScoredRow per row.
  HostBuffer host_results_;
  DeviceBuffer results_;
  DeviceBuffer row_copies_;  // where rows do not fit on chip
};

absl::Status GpuSampler::Allocate(Device& device) {
  MAMBAD_RETURN_IF_ERROR(device.MakeCurrent());
  MAMBAD_RETURN_IF_ERROR(GpuStatus(DescribeSamplingDevice(device.ordinal(), &hardware_), "sampling"));
  const std::int64_t rows = shape().rows_max;
  const std::size_t inputs =
      std::max(SamplingTable::Bytes(rows, EntriesMax(shape().vocab)), rows * sizeof(std::int32_t));
  const std::size_t results = rows * std::max(sizeof(SampledRow), sizeof(ScoredRow));
  MAMBAD_ASSIGN_OR_RETURN(host_inputs_, HostBuffer::Create(device, inputs));
  MAMBAD_ASSIGN_OR_RETURN(inputs_, device.Allocate(inputs, "workspace"));
  MAMBAD_ASSIGN_OR_RETURN(host_results_, HostBuffer::Create(device, results));
  // Zero: whole rows are copied back, with the places of tops that nobody asked for.
  MAMBAD_ASSIGN_OR_RETURN(results_, device.Allocate(results, "workspace", Fill::kZero));
  // Whether a row fits on chip does not depend on the number of rows.
  MAMBAD_ASSIGN_OR_RETURN(
      row_copies_, device.Allocate(SamplingScratchBytes(PlanFor(rows), shape().stride, rows), "workspace"));
  return absl::OkStatus();
}

absl::Status GpuSampler::SampleRows(Stream& stream, const SampleArgs& args) {
  const auto rows = static_cast<std::int64_t>(args.params.size());
  for (std::int64_t begin = 0; begin < rows;) {
    const std::int64_t end = EndOfLaunch(args, begin, EntriesMax(shape().vocab));
    MAMBAD_RETURN_IF_ERROR(EnqueueSample(stream, args, begin, end));
    MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
    Collect<SampledRow>(args.results.subspan(begin, end - begin));
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status GpuSampler::ScoreRows(Stream& stream, const ScoreArgs& args) {
  MAMBAD_RETURN_IF_ERROR(EnqueueScore(stream, args));
  MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
  Collect<ScoredRow>(args.results);
  return absl::OkStatus();
}

absl::Status GpuSampler::EnqueueSample(Stream& stream, const SampleArgs& args, std::int64_t begin,
                                       std::int64_t end) {
  const std::int64_t rows = end - begin;
  SamplingTableWriter writer(SamplingTable::In(host_inputs_.as<void>(), rows), rows,
                             EntriesMax(shape().vocab));
  for (std::int64_t row = begin; row < end; ++row) {
    writer.Add({.params = args.params[row],
                .key = args.keys[row],
                .logit_bias = args.logit_bias.Row(row),
                .token_counts = args.token_counts.Row(row),
                .suppressed = args.suppressed.Row(row)});
  }
  MAMBAD_RETURN_IF_ERROR(CopyToDevice(stream, inputs_.data(), host_inputs_.as<void>(),
                                      SamplingTable::Bytes(rows, writer.entries())));
  const SamplingTable table = SamplingTable::In(inputs_.data(), rows);
  const SampleLaunch launch = {.logits = args.logits + begin * shape().stride,
                               .logits_stride = shape().stride,
                               .vocab = shape().vocab,
                               .rows = rows,
                               .table = table.rows,
                               .entries = table.entries,
                               .results = results_.as<SampledRow>(),
                               .row_copies = row_copies_.as<float>()};
  // Not dependent: the table's copy is what comes before it.
  MAMBAD_RETURN_IF_ERROR(
      MAMBAD_ON_GPU(stream, "sampling", LaunchSample(stream.handle(), PlanFor(rows), launch)));
  return CopyToHost(stream, host_results_.as<void>(), results_.data(), rows * sizeof(SampledRow));
}

absl::Status GpuSampler::EnqueueScore(Stream& stream, const ScoreArgs& args) {
  const auto rows = static_cast<std::int64_t>(args.targets.size());
  std::copy(args.targets.begin(), args.targets.end(), host_inputs_.as<std::int32_t>());
  MAMBAD_RETURN_IF_ERROR(
      CopyToDevice(stream, inputs_.data(), host_inputs_.as<void>(), args.targets.size_bytes()));
  const ScoreLaunch launch = {.logits = args.logits,
                              .logits_stride = shape().stride,
                              .vocab = shape().vocab,
                              .rows = rows,
                              .targets = inputs_.as<std::int32_t>(),
                              .top_logprobs = args.top_logprobs,
                              .results = results_.as<ScoredRow>(),
                              .row_copies = row_copies_.as<float>()};
  MAMBAD_RETURN_IF_ERROR(
      MAMBAD_ON_GPU(stream, "scoring", LaunchScoreRows(stream.handle(), PlanFor(rows), launch)));
  return CopyToHost(stream, host_results_.as<void>(), results_.data(), rows * sizeof(ScoredRow));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::CreateOnGpu(Device& device, const LogitsShape& shape) {
  auto sampler = std::make_unique<GpuSampler>(device, shape);
  MAMBAD_RETURN_IF_ERROR(sampler->Allocate(device));
  return sampler;
}

}  // namespace mambad::kernels

// Sampler on a GPU: writes a table of the rows, launches, and reads what comes back. The kernels read short
// tables in the host's memory, and write their results there: a copy costs more than the few bytes do.
#include <algorithm>
#include <cstdint>

#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/sampling/sampler.h"
#include "kernels/sampling/sampling_cuda.h"
#include "kernels/sampling/sampling_table_writer.h"

namespace mambad::kernels {
namespace {

// A table with more list entries is copied to the device first.
constexpr std::int64_t kEntriesInPlace = 4096;

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

  std::size_t bytes() const override { return table_.bytes() + row_copies_.bytes(); }

 private:
  // What the host and a draw's kernels share, from Enqueue to Take.
  struct Draw {
    HostBuffer table;    // a SamplingTable of one launch's rows, or targets
    HostBuffer results;  // SampledRow or ScoredRow per row
  };

  absl::Status EnqueueRows(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn,
                           int draw) override;
  void TakeRows(std::span<SampledToken> results, int draw) override {
    Unpack(draws_[draw].results.as<SampledRow>(), results);
  }
  absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) override;

  // Rows [begin, end) of the arguments are one launch.
  absl::Status Launch(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn, const Draw& draw,
                      std::int64_t begin, std::int64_t end);
  template <class Row, class Result>
  static void Unpack(const Row* rows, std::span<Result> results) {
    std::transform(rows, rows + results.size(), results.begin(),
                   [](const Row& row) { return kernels::Unpack(row); });
  }

  SamplingPlan PlanFor(std::int64_t rows) const { return PlanSampling(hardware_, shape().vocab, rows); }

  SamplingDevice hardware_;
  Draw draws_[kDrawsMax];
  DeviceBuffer table_;       // the copy of a long one
  DeviceBuffer row_copies_;  // where rows do not fit on chip
};

absl::Status GpuSampler::Allocate(Device& device) {
  MAMBAD_RETURN_IF_ERROR(device.MakeCurrent());
  MAMBAD_RETURN_IF_ERROR(GpuStatus(DescribeSamplingDevice(device.ordinal(), &hardware_), "sampling"));
  const std::int64_t rows = shape().rows_max;
  const std::size_t table =
      std::max(SamplingTable::Bytes(rows, EntriesMax(shape().vocab)), rows * sizeof(std::int32_t));
  for (Draw& draw : draws_) {
    MAMBAD_ASSIGN_OR_RETURN(draw.table, HostBuffer::Create(device, table));
    MAMBAD_ASSIGN_OR_RETURN(
        draw.results, HostBuffer::Create(device, rows * std::max(sizeof(SampledRow), sizeof(ScoredRow))));
  }
  MAMBAD_ASSIGN_OR_RETURN(table_, device.Allocate(table, "workspace"));
  // Whether a row fits on chip does not depend on the number of rows.
  MAMBAD_ASSIGN_OR_RETURN(
      row_copies_, device.Allocate(SamplingScratchBytes(PlanFor(rows), shape().stride, rows), "workspace"));
  return absl::OkStatus();
}

absl::Status GpuSampler::EnqueueRows(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn,
                                     int draw) {
  const auto rows = static_cast<std::int64_t>(args.params.size());
  for (std::int64_t begin = 0; begin < rows;) {
    // The next launch takes the table's place.
    if (begin > 0) MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
    const std::int64_t end = EndOfLaunch(args, begin, EntriesMax(shape().vocab));
    MAMBAD_RETURN_IF_ERROR(Launch(stream, args, drawn, draws_[draw], begin, end));
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status GpuSampler::Launch(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn,
                                const Draw& draw, std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = end - begin;
  SamplingTable table = SamplingTable::In(draw.table.as<void>(), rows);
  SamplingTableWriter writer(table, rows, EntriesMax(shape().vocab));
  for (std::int64_t row = begin; row < end; ++row) {
    writer.Add({.params = args.params[row],
                .key = args.keys[row],
                .logit_bias = args.logit_bias.Row(row),
                .token_counts = args.token_counts.Row(row),
                .suppressed = args.suppressed.Row(row),
                .token_slot = drawn.tokens != nullptr ? drawn.places[row] : kNoTokenSlot,
                .count_previous = drawn.tokens != nullptr && drawn.unseen[row] != 0});
  }
  if (writer.entries() > kEntriesInPlace) {
    MAMBAD_RETURN_IF_ERROR(CopyToDevice(stream, table_.data(), draw.table.as<void>(),
                                        SamplingTable::Bytes(rows, writer.entries())));
    table = SamplingTable::In(table_.data(), rows);
  }
  const SampleLaunch launch = {.logits = args.logits + begin * shape().stride,
                               .logits_stride = shape().stride,
                               .vocab = shape().vocab,
                               .rows = rows,
                               .table = table.rows,
                               .entries = table.entries,
                               .results = draw.results.as<SampledRow>() + begin,
                               .tokens = drawn.tokens,
                               .row_copies = row_copies_.as<float>()};
  return MAMBAD_ON_GPU(stream, "sampling", LaunchSample(stream.handle(), PlanFor(rows), launch));
}

absl::Status GpuSampler::ScoreRows(Stream& stream, const ScoreArgs& args) {
  const auto rows = static_cast<std::int64_t>(args.targets.size());
  const Draw& draw = draws_[0];
  std::copy(args.targets.begin(), args.targets.end(), draw.table.as<std::int32_t>());
  const ScoreLaunch launch = {.logits = args.logits,
                              .logits_stride = shape().stride,
                              .vocab = shape().vocab,
                              .rows = rows,
                              .targets = draw.table.as<std::int32_t>(),
                              .top_logprobs = args.top_logprobs,
                              .results = draw.results.as<ScoredRow>(),
                              .row_copies = row_copies_.as<float>()};
  MAMBAD_RETURN_IF_ERROR(
      MAMBAD_ON_GPU(stream, "scoring", LaunchScoreRows(stream.handle(), PlanFor(rows), launch)));
  MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
  Unpack(draw.results.as<ScoredRow>(), args.results);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::CreateOnGpu(Device& device, const LogitsShape& shape) {
  auto sampler = std::make_unique<GpuSampler>(device, shape);
  MAMBAD_RETURN_IF_ERROR(sampler->Allocate(device));
  return sampler;
}

}  // namespace mambad::kernels

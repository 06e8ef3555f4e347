// Sampler on the CPU: the rows are spread over the stream's pool.
#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"
#include "kernels/sampling/row_sampler.h"
#include "kernels/sampling/row_scores.h"
#include "kernels/sampling/sampler.h"
#include "kernels/sampling/sampling_cpu.h"

namespace mambad::kernels {
namespace {

class CpuSampler final : public Sampler {
 public:
  CpuSampler(Device& device, const LogitsShape& shape, DeviceBuffer scratch)
      : Sampler(device, shape), scratch_(std::move(scratch)) {
    for (std::vector<SampledToken>& results : drawn_)
      results.resize(static_cast<std::size_t>(shape.rows_max));
  }

  std::size_t bytes() const override { return scratch_.bytes(); }

 private:
  absl::Status EnqueueRows(Stream& stream, const SampleArgs& args, const DrawnTokens&, int draw) override {
    const RowKernels kernels = RowKernelsFor(stream.cpu_path());
    const std::int64_t rows = args.params.size();
    const auto sample_rows = [&](int worker, int workers) {
      RowSampler sampler(kernels, shape().vocab,
                         scratch_.as<std::byte>() + worker * RowSampler::ScratchBytes(shape().vocab));
      const Range range = Slice(rows, 1, worker, workers);
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        drawn_[draw][row] =
            sampler.Sample({Row(args.logits, row), args.params[row], args.keys[row], args.logit_bias.Row(row),
                            args.token_counts.Row(row), args.suppressed.Row(row)});
      }
    };
    if (rows == 1) {
      sample_rows(0, 1);
    } else {
      stream.pool().Run(sample_rows);
    }
    return absl::OkStatus();
  }

  void TakeRows(std::span<SampledToken> results, int draw) override {
    std::copy_n(drawn_[draw].begin(), results.size(), results.begin());
  }

  absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) override {
    const RowKernels kernels = RowKernelsFor(stream.cpu_path());
    const std::int64_t rows = args.targets.size();
    stream.pool().Run([&](int worker, int workers) {
      const Range range = Slice(rows, 1, worker, workers);
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        args.results[row] = ScoreRow(kernels, Row(args.logits, row), args.targets[row], args.top_logprobs);
      }
    });
    return absl::OkStatus();
  }

  std::span<const float> Row(const float* logits, std::int64_t row) const {
    return {logits + row * shape().stride, static_cast<std::size_t>(shape().vocab)};
  }

  DeviceBuffer scratch_;  // one part per worker
  std::vector<SampledToken> drawn_[kDrawsMax];
};

}  // namespace

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::CreateOnCpu(Device& device, const LogitsShape& shape) {
  MAMBAD_ASSIGN_OR_RETURN(
      DeviceBuffer scratch,
      device.Allocate(device.pool().threads() * RowSampler::ScratchBytes(shape.vocab), "workspace"));
  return std::make_unique<CpuSampler>(device, shape, std::move(scratch));
}

}  // namespace mambad::kernels

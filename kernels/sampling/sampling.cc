#include "kernels/sampling/sampling.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/sampling/row_sampler.h"
#include "kernels/sampling/row_scores.h"
#include "kernels/sampling/sampling_cpu.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kMaxVocab = std::int64_t{1} << 30;

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("sampling: ", std::string(what)));
}

bool In(float value, float low, float high) { return value >= low && value <= high; }

absl::Status CheckParams(const SamplingParams& params) {
  if (!In(params.temperature, 0.0f, 100.0f)) return Bad("temperature is not in [0, 100]");
  if (!In(params.top_p, 0.0f, 1.0f) || params.top_p == 0.0f) return Bad("top_p is not in (0, 1]");
  if (!In(params.min_p, 0.0f, 1.0f)) return Bad("min_p is not in [0, 1]");
  if (!In(params.repetition_penalty, 0.0f, 10.0f) || params.repetition_penalty == 0.0f) {
    return Bad("repetition_penalty is not in (0, 10]");
  }
  if (!In(params.presence_penalty, -2.0f, 2.0f)) return Bad("presence_penalty is not in [-2, 2]");
  if (!In(params.frequency_penalty, -2.0f, 2.0f)) return Bad("frequency_penalty is not in [-2, 2]");
  if (params.top_k < 0) return Bad("top_k is negative");
  if (params.top_logprobs < 0 || params.top_logprobs > kMaxTopLogprobs)
    return Bad("top_logprobs is out of range");
  return absl::OkStatus();
}

absl::Status CheckLogits(const float* logits, std::int64_t stride, std::int64_t vocab, std::size_t rows) {
  if (vocab < 1 || vocab > kMaxVocab) return Bad("vocab is out of range");
  if (rows == 0) return absl::OkStatus();
  if (logits == nullptr) return Bad("logits is null");
  if (stride < vocab) return Bad("logits_stride is below vocab");
  return absl::OkStatus();
}

template <class T>
absl::Status CheckRagged(std::string_view name, const Ragged<T>& lists, std::size_t rows) {
  if (lists.offsets.empty()) return absl::OkStatus();
  const auto bad = [&] { return Bad(absl::StrCat("the offsets of ", std::string(name), " are malformed")); };
  if (lists.offsets.size() != rows + 1 || lists.offsets.front() < 0) return bad();
  for (std::size_t row = 0; row < rows; ++row) {
    if (lists.offsets[row + 1] < lists.offsets[row]) return bad();
  }
  if (lists.offsets.back() > static_cast<std::int64_t>(lists.items.size())) return bad();
  return absl::OkStatus();
}

absl::Status CheckLists(const SampleArgs& args, std::size_t row) {
  const auto in_vocab = [&](std::int32_t token) { return token >= 0 && token < args.vocab; };
  for (const LogitBias& bias : args.logit_bias.Row(row)) {
    if (!in_vocab(bias.token)) return Bad("a token of logit_bias is out of range");
    if (!In(bias.bias, -100.0f, 100.0f)) return Bad("a bias is not in [-100, 100]");
  }
  for (const TokenCount& count : args.token_counts.Row(row)) {
    if (!in_vocab(count.token)) return Bad("a token of token_counts is out of range");
    if (count.output_count < 0) return Bad("a count of token_counts is negative");
  }
  const std::span<const std::int32_t> suppressed = args.suppressed.Row(row);
  if (static_cast<std::int64_t>(suppressed.size()) >= args.vocab) return Bad("every token is suppressed");
  for (const std::int32_t token : suppressed) {
    if (!in_vocab(token)) return Bad("a suppressed token is out of range");
  }
  return absl::OkStatus();
}

absl::Status CheckSample(Device& device, const SampleArgs& args) {
  const std::size_t rows = args.params.size();
  MAMBAD_RETURN_IF_ERROR(CheckLogits(args.logits, args.logits_stride, args.vocab, rows));
  if (args.keys.size() != rows || args.results.size() != rows)
    return Bad("params, keys and results differ in size");
  MAMBAD_RETURN_IF_ERROR(CheckRagged("logit_bias", args.logit_bias, rows));
  MAMBAD_RETURN_IF_ERROR(CheckRagged("token_counts", args.token_counts, rows));
  MAMBAD_RETURN_IF_ERROR(CheckRagged("suppressed", args.suppressed, rows));
  for (std::size_t row = 0; row < rows; ++row) {
    MAMBAD_RETURN_IF_ERROR(CheckParams(args.params[row]));
    MAMBAD_RETURN_IF_ERROR(CheckLists(args, row));
  }
  if (rows > 0 && args.scratch.size() < SampleScratchBytes(device, args.vocab))
    return Bad("scratch is too small");
  return absl::OkStatus();
}

void SampleRows(Stream& stream, const SampleArgs& args) {
  const RowKernels kernels = RowKernelsFor(stream.cpu_path());
  const std::int64_t rows = args.params.size();
  const auto sample_rows = [&](int worker, int workers) {
    RowSampler sampler(kernels, args.vocab,
                       args.scratch.data() + worker * RowSampler::ScratchBytes(args.vocab));
    const Range range = Slice(rows, 1, worker, workers);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      args.results[row] =
          sampler.Sample({{args.logits + row * args.logits_stride, static_cast<std::size_t>(args.vocab)},
                          args.params[row],
                          args.keys[row],
                          args.logit_bias.Row(row),
                          args.token_counts.Row(row),
                          args.suppressed.Row(row)});
    }
  };
  if (rows <= 1) {
    sample_rows(0, 1);
  } else {
    stream.pool().Run(sample_rows);
  }
}

void ScoreAllRows(Stream& stream, const ScoreArgs& args) {
  const RowKernels kernels = RowKernelsFor(stream.cpu_path());
  const std::int64_t rows = args.targets.size();
  stream.pool().Run([&](int worker, int workers) {
    const Range range = Slice(rows, 1, worker, workers);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      args.results[row] =
          ScoreRow(kernels, {args.logits + row * args.logits_stride, static_cast<std::size_t>(args.vocab)},
                   args.targets[row], args.top_logprobs);
    }
  });
}

// A GPU's logits are sampled by the host: correct, and slow by the copy.
template <class Args>
absl::Status OnHost(Stream& stream, Args args, std::size_t rows, void (*run)(Stream&, const Args&)) {
  MAMBAD_ASSIGN_OR_RETURN(const HostBuffer copy,
                          HostBuffer::Create(stream.device(), rows * args.vocab * sizeof(float)));
  for (std::size_t row = 0; row < rows; ++row) {
    MAMBAD_RETURN_IF_ERROR(CopyToHost(stream, copy.as<float>() + row * args.vocab,
                                      args.logits + row * args.logits_stride, args.vocab * sizeof(float)));
  }
  MAMBAD_RETURN_IF_ERROR(stream.Synchronize());
  args.logits = copy.as<float>();
  args.logits_stride = args.vocab;
  run(stream, args);
  return absl::OkStatus();
}

}  // namespace

std::size_t SampleScratchBytes(Device& device, std::int64_t vocab) {
  return device.pool().threads() * RowSampler::ScratchBytes(vocab);
}

absl::Status Sample(Stream& stream, const SampleArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckSample(stream.device(), args));
  if (stream.on_gpu()) return OnHost(stream, args, args.params.size(), &SampleRows);
  SampleRows(stream, args);
  return absl::OkStatus();
}

absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckLogits(args.logits, args.logits_stride, args.vocab, args.targets.size()));
  if (args.results.size() != args.targets.size()) return Bad("targets and results differ in size");
  if (args.top_logprobs < 0 || args.top_logprobs > kMaxTopLogprobs)
    return Bad("top_logprobs is out of range");
  for (const std::int32_t target : args.targets) {
    if (target < 0 || target >= args.vocab) return Bad("a target is out of range");
  }
  if (stream.on_gpu()) return OnHost(stream, args, args.targets.size(), &ScoreAllRows);
  ScoreAllRows(stream, args);
  return absl::OkStatus();
}

}  // namespace mambad::kernels

#include "kernels/sampling/sampling.h"

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kMaxVocab = std::int64_t{1} << 28;
constexpr std::int64_t kLogitsAlignment = 16;  // bytes, of each row

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

absl::Status CheckLogits(const LogitsShape& shape, const float* logits, std::size_t rows) {
  if (rows > static_cast<std::size_t>(shape.rows_max)) return Bad("more rows than the sampler takes");
  if (rows == 0) return absl::OkStatus();
  if (logits == nullptr) return Bad("logits is null");
  if (reinterpret_cast<std::uintptr_t>(logits) % kLogitsAlignment != 0) return Bad("logits is misaligned");
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

absl::Status CheckLists(std::int64_t vocab, const SampleArgs& args, std::size_t row) {
  const auto in_vocab = [&](std::int32_t token) { return token >= 0 && token < vocab; };
  const auto too_long = [&](const auto& list) { return static_cast<std::int64_t>(list.size()) > vocab; };
  const std::span<const LogitBias> biases = args.logit_bias.Row(row);
  if (too_long(biases)) return Bad("logit_bias names a token twice");
  for (const LogitBias& bias : biases) {
    if (!in_vocab(bias.token)) return Bad("a token of logit_bias is out of range");
    if (!In(bias.bias, -100.0f, 100.0f)) return Bad("a bias is not in [-100, 100]");
  }
  const std::span<const TokenCount> counts = args.token_counts.Row(row);
  if (too_long(counts)) return Bad("token_counts names a token twice");
  for (const TokenCount& count : counts) {
    if (!in_vocab(count.token)) return Bad("a token of token_counts is out of range");
    if (count.output_count < 0) return Bad("a count of token_counts is negative");
  }
  const std::span<const std::int32_t> suppressed = args.suppressed.Row(row);
  if (static_cast<std::int64_t>(suppressed.size()) >= vocab) return Bad("every token is suppressed");
  for (const std::int32_t token : suppressed) {
    if (!in_vocab(token)) return Bad("a suppressed token is out of range");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckShape(const LogitsShape& shape) {
  if (shape.vocab < 1 || shape.vocab > kMaxVocab) return Bad("vocab is out of range");
  if (shape.stride < shape.vocab) return Bad("stride is below vocab");
  if (shape.stride * std::int64_t{sizeof(float)} % kLogitsAlignment != 0) return Bad("stride is misaligned");
  if (shape.rows_max < 0) return Bad("rows_max is negative");
  return absl::OkStatus();
}

absl::Status CheckSample(const LogitsShape& shape, const SampleArgs& args, const DrawnTokens& drawn) {
  const std::size_t rows = args.params.size();
  MAMBAD_RETURN_IF_ERROR(CheckLogits(shape, args.logits, rows));
  if (args.keys.size() != rows) return Bad("params and keys differ in size");
  if (drawn.tokens != nullptr && (drawn.places.size() != rows || drawn.unseen.size() != rows))
    return Bad("params, places and unseen differ in size");
  MAMBAD_RETURN_IF_ERROR(CheckRagged("logit_bias", args.logit_bias, rows));
  MAMBAD_RETURN_IF_ERROR(CheckRagged("token_counts", args.token_counts, rows));
  MAMBAD_RETURN_IF_ERROR(CheckRagged("suppressed", args.suppressed, rows));
  for (std::size_t row = 0; row < rows; ++row) {
    MAMBAD_RETURN_IF_ERROR(CheckParams(args.params[row]));
    MAMBAD_RETURN_IF_ERROR(CheckLists(shape.vocab, args, row));
  }
  return absl::OkStatus();
}

absl::Status CheckScore(const LogitsShape& shape, const ScoreArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckLogits(shape, args.logits, args.targets.size()));
  if (args.results.size() != args.targets.size()) return Bad("targets and results differ in size");
  if (args.top_logprobs < 0 || args.top_logprobs > kMaxTopLogprobs)
    return Bad("top_logprobs is out of range");
  for (const std::int32_t target : args.targets) {
    if (target < 0 || target >= shape.vocab) return Bad("a target is out of range");
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels

#include "tests/support/oracle_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "kernels/base/check.h"

namespace mambad {
namespace {

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9e3779b97f4a7c15ull + std::rotl(b, 17) + 0x632be59bd9b4e019ull;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  return x ^ x >> 32;
}

bool IsSuppressed(const SamplingRow& row, uint32_t token) {
  return std::find(row.suppressed.begin(), row.suppressed.end(), static_cast<int32_t>(token)) !=
         row.suppressed.end();
}

// Everything in `row` that may change a draw.
uint64_t HashOf(const SamplingRow& row) {
  const kernels::SamplingParams& params = row.params;
  uint64_t hash = Mix(std::bit_cast<uint32_t>(params.temperature), static_cast<uint64_t>(params.top_k));
  for (const float value : {params.top_p, params.min_p, params.repetition_penalty, params.presence_penalty,
                            params.frequency_penalty}) {
    hash = Mix(hash, std::bit_cast<uint32_t>(value));
  }
  for (const kernels::LogitBias& bias : row.logit_bias) {
    hash = Mix(hash, Mix(static_cast<uint64_t>(bias.token), std::bit_cast<uint32_t>(bias.bias)));
  }
  uint64_t counts = 0;  // the order of the list does not matter
  for (const kernels::TokenCount& count : row.token_counts) {
    counts += Mix(static_cast<uint64_t>(count.token), static_cast<uint64_t>(count.output_count));
  }
  hash = Mix(hash, counts);
  if (params.temperature == 0) return hash;
  return Mix(Mix(hash, row.key.seed), Mix(row.key.token_index, row.key.candidate));
}

StateView Wide(const StateView& view) {
  return {.base = view.wide_base, .stride = view.wide_stride, .slots = view.wide_slots};
}

OracleState Load(const StateView& view, int32_t slot) {
  OracleState state;
  std::memcpy(&state, view.base + slot * view.stride, sizeof(state));
  // A freed slot is full of NaN: whoever reads one has used it after its end.
  MAMBAD_CHECK(state.poisoned <= 1);
  return state;
}

void Store(const StateView& view, int32_t slot, const OracleState& state) {
  std::memcpy(view.base + slot * view.stride, &state, sizeof(state));
}

// Where a narrow state's chunk begins and ends: its slot keeps the state of the prompt's begin meanwhile.
OracleState LoadPrompt(const Batch& batch, const StateView& view, size_t chunk) {
  if (batch.chunk_wide.empty() || batch.chunk_wide[chunk].begins) return Load(view, batch.chunk_slots[chunk]);
  return Load(Wide(view), batch.chunk_wide[chunk].slot);
}

void StorePrompt(const Batch& batch, const StateView& view, size_t chunk, const OracleState& state) {
  if (!batch.chunk_wide.empty()) Store(Wide(view), batch.chunk_wide[chunk].slot, state);
  if (batch.chunk_wide.empty() || batch.chunk_wide[chunk].ends) Store(view, batch.chunk_slots[chunk], state);
}

LogitsResult Answer(const OracleState& state, const LogitsTask& task) {
  LogitsResult result;
  result.finite = state.poisoned == 0;
  if (!result.finite) {
    result.token = 0xffffffff;  // unspecified: nobody may look
    return result;
  }
  int32_t top = static_cast<int32_t>(task.top_logprobs);
  if (task.sampling != nullptr) {
    result.token = OracleModel::Draw(state, *task.sampling);
    if (task.sampling->params.logprob) result.logprob = OracleModel::Logprob(state, result.token);
    top = task.sampling->params.top_logprobs;
  }
  if (task.target) {
    result.target_logprob = OracleModel::Logprob(state, *task.target);
    result.target_is_greedy = *task.target == OracleModel::Greedy(state);
  }
  for (int32_t i = 0; i < top; ++i) {
    const uint32_t token = (OracleModel::Greedy(state) + i) % OracleModel::kVocab;
    result.top.emplace_back(token, OracleModel::Logprob(state, token));
  }
  return result;
}

}  // namespace

OracleModel::OracleModel(ForwardLimits limits, bool narrow) : limits_(limits) {
  absl::StatusOr<std::unique_ptr<kernels::Device>> device = kernels::Device::Create({.threads = 1});
  MAMBAD_CHECK(device.ok());
  device_ = *std::move(device);
  info_.model_type = "oracle";
  info_.precision = "f32";
  info_.vocab_size = kVocab;
  info_.d_model = 2;
  info_.eos_token_ids = {kEos};
  info_.digest = "oracle";
  info_.numerics_id = "oracle";
  StateTensor tensor;
  tensor.spec = {.name = "history", .shape = {6}};
  tensor.layer_stride = 24;
  tensor.n_layer = 1;
  layout_.tensors = {tensor};
  layout_.last_hidden_offset = 24;
  layout_.d_model = 2;
  layout_.bytes = sizeof(OracleState);
  layout_.stride = 64;
  if (narrow) layout_.wide_stride = 64;
}

OracleState OracleModel::Consume(const OracleState& state, uint32_t token, bool as_prompt) {
  OracleState next;
  next.position = state.position + 1;
  next.hash = Mix(Mix(state.hash, token), as_prompt ? 1 : 2);
  next.poisoned = state.poisoned | (token == kPoisonToken ? 1 : 0);
  next.last_hidden = Mix(next.hash, next.position);
  return next;
}

OracleState OracleModel::ConsumePrompt(OracleState state, std::span<const uint32_t> tokens) {
  for (const uint32_t token : tokens) state = Consume(state, token, true);
  return state;
}

uint32_t OracleModel::Draw(const OracleState& state, const SamplingRow& row) {
  const uint64_t hash = Mix(state.last_hidden, HashOf(row));
  const bool may_poison = std::any_of(row.logit_bias.begin(), row.logit_bias.end(),
                                      [](const auto& bias) { return bias.token == kPoisonToken; });
  if (may_poison && hash % kPoisonOneIn == 0) return kPoisonToken;
  uint32_t token = hash % kPoisonToken;
  while (IsSuppressed(row, token)) token = (token + 1) % kPoisonToken;
  return token;
}

uint32_t OracleModel::Greedy(const OracleState& state) { return Mix(state.last_hidden, 7) % kVocab; }

float OracleModel::Logprob(const OracleState& state, uint32_t token) {
  return -static_cast<float>(Mix(state.last_hidden, token + 11) % 1000) / 100;
}

OracleState OracleModel::Parse(std::span<const std::byte> bytes) {
  OracleState state;
  MAMBAD_CHECK(bytes.size() == sizeof(state));
  std::memcpy(&state, bytes.data(), sizeof(state));
  return state;
}

void OracleModel::Check(const Batch& batch, const StateView& state) const {
  MAMBAD_CHECK(batch.decode_slots.size() <= limits_.decode_rows);
  MAMBAD_CHECK(batch.decode_tokens.size() == batch.decode_slots.size());
  MAMBAD_CHECK(batch.prompt_tokens.size() <= limits_.prompt_tokens);
  MAMBAD_CHECK(batch.logits.size() <= limits_.logits_tasks());
  MAMBAD_CHECK(batch.chunk_offsets.size() == (batch.chunk_slots.empty() ? 0 : batch.chunk_slots.size() + 1));
  std::set<int32_t> slots(batch.decode_slots.begin(), batch.decode_slots.end());
  slots.insert(batch.chunk_slots.begin(), batch.chunk_slots.end());
  MAMBAD_CHECK(slots.size() == batch.decode_slots.size() + batch.chunk_slots.size());
  MAMBAD_CHECK(slots.empty() || (*slots.begin() >= 0 && *slots.rbegin() < state.slots));
  MAMBAD_CHECK(batch.chunk_wide.size() == (layout_.narrow() ? batch.chunk_slots.size() : 0));
  std::set<int32_t> wide;
  for (const WideChunk& chunk : batch.chunk_wide) {
    MAMBAD_CHECK(chunk.slot >= 0 && chunk.slot < state.wide_slots && wide.insert(chunk.slot).second);
  }
  for (const uint32_t token : batch.prompt_tokens) MAMBAD_CHECK(token < kVocab);
  for (const LogitsTask& task : batch.logits) MAMBAD_CHECK(task.sampling == nullptr || !task.target);
}

absl::Status OracleModel::Forward(const Batch& batch, const StateView& view,
                                  std::vector<LogitsResult>* results) {
  ++forwards_;
  if (fail_after_ && (*fail_after_)-- == 0) {
    fail_after_ = 0;
    return absl::InternalError("the oracle was told to fail");
  }
  Check(batch, view);
  std::vector<OracleState> before;
  for (const LogitsTask& task : batch.logits) {
    const bool of_slot = task.source == LogitsSource::kSlot;
    before.push_back(of_slot ? Load(view, static_cast<int32_t>(task.index)) : OracleState());
  }
  std::vector<OracleState> decoded;
  for (size_t i = 0; i < batch.decode_slots.size(); ++i) {
    const int32_t slot = batch.decode_slots[i];
    decoded.push_back(Consume(Load(view, slot), batch.decode_tokens[i], false));
    Store(view, slot, decoded.back());
  }
  std::vector<OracleState> read;
  for (size_t c = 0; c < batch.chunk_slots.size(); ++c) {
    OracleState state = LoadPrompt(batch, view, c);
    for (uint32_t t = batch.chunk_offsets[c]; t < batch.chunk_offsets[c + 1]; ++t) {
      state = Consume(state, batch.prompt_tokens[t], true);
      read.push_back(state);
    }
    StorePrompt(batch, view, c, state);
  }
  decode_tokens_ += decoded.size();
  prompt_tokens_ += read.size();

  results->clear();
  for (size_t i = 0; i < batch.logits.size(); ++i) {
    const LogitsTask& task = batch.logits[i];
    const OracleState& state = task.source == LogitsSource::kSlot        ? before[i]
                               : task.source == LogitsSource::kDecodeRow ? decoded.at(task.index)
                                                                         : read.at(task.index);
    results->push_back(Answer(state, task));
  }
  return absl::OkStatus();
}

}  // namespace mambad

#include "tests/support/oracle_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/slots.h"
#include "kernels/base/status_macros.h"

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
  const std::span<const int32_t> suppressed = row.SuppressedAt(row.key.token_index);
  return std::ranges::find(suppressed, static_cast<int32_t>(token)) != suppressed.end();
}

bool Penalizes(const SamplingRow& row) {
  const kernels::SamplingParams& params = row.params;
  return params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
}

// `row` when its output has one token more.
SamplingRow After(SamplingRow row, uint32_t token) {
  ++row.key.token_index;
  if (!Penalizes(row)) return row;
  const auto is_token = [&](const auto& count) { return count.token == static_cast<int32_t>(token); };
  const auto listed = std::ranges::find_if(row.token_counts, is_token);
  if (listed == row.token_counts.end()) {
    row.token_counts.push_back({.token = static_cast<int32_t>(token), .output_count = 1});
  } else {
    ++listed->output_count;
  }
  return row;
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

OracleState Peek(const StateView& view, int32_t slot) {
  OracleState state;
  std::memcpy(&state, view.base + slot * view.stride, sizeof(state));
  return state;
}

OracleState Load(const StateView& view, int32_t slot) {
  const OracleState state = Peek(view, slot);
  // A freed slot is full of NaN: whoever reads one has used it after its end.
  MAMBAD_CHECK(state.poisoned <= 1);
  return state;
}

void Store(const StateView& view, int32_t slot, const OracleState& state) {
  std::memcpy(view.base + slot * view.stride, &state, sizeof(state));
}

// Where a narrow state's chunk begins and ends: its slot keeps the state of the prompt's begin meanwhile.
OracleState LoadPrompt(const StateView& view, int32_t slot, const WideChunk* wide) {
  return wide == nullptr || wide->begins ? Load(view, slot) : Load(Wide(view), wide->slot);
}

void StorePrompt(const StateView& view, int32_t slot, const WideChunk* wide, const OracleState& state) {
  if (wide != nullptr) Store(Wide(view), wide->slot, state);
  if (wide == nullptr || wide->ends) Store(view, slot, state);
}

// Where a pass that has not ended leaves something.
void StoreHalfDone(const StateView& view, int32_t slot, const WideChunk* wide, const OracleState& state) {
  if (wide == nullptr) return Store(view, slot, state);
  Store(Wide(view), wide->slot, state);
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

std::unique_ptr<kernels::Device> OnCpu() {
  absl::StatusOr<std::unique_ptr<kernels::Device>> device = kernels::Device::Create({.threads = 1});
  MAMBAD_CHECK(device.ok());
  return *std::move(device);
}

}  // namespace

OracleModel::OracleModel(ForwardLimits limits, Ahead ahead, bool narrow)
    : OracleModel(limits, ahead, OnCpu()) {
  if (narrow) layout_.wide_stride = 64;
  MAMBAD_CHECK(Allocate().ok());
}

absl::StatusOr<std::shared_ptr<OracleModel>> OracleModel::OnGpu(ForwardLimits limits, Ahead ahead) {
  MAMBAD_ASSIGN_OR_RETURN(auto device,
                          kernels::Device::Create({.kind = kernels::DeviceKind::kCuda, .threads = 1}));
  std::shared_ptr<OracleModel> model(new OracleModel(limits, ahead, std::move(device)));
  MAMBAD_RETURN_IF_ERROR(model->Allocate());
  return model;
}

OracleModel::OracleModel(ForwardLimits limits, Ahead ahead, std::unique_ptr<kernels::Device> device)
    : limits_(limits), ahead_(ahead), device_(std::move(device)) {
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
}

absl::Status OracleModel::Allocate() {
  const size_t words = 2 * size_t{limits_.decode_rows} + 3 * size_t{limits_.prompt_tokens} + 1 +
                       2 * size_t{limits_.logits_tasks()};
  MAMBAD_ASSIGN_OR_RETURN(stream_, kernels::Stream::Create(*device_));
  MAMBAD_ASSIGN_OR_RETURN(tables_, device_->Allocate(words * sizeof(uint32_t), "workspace"));
  MAMBAD_ASSIGN_OR_RETURN(hidden_,
                          device_->Allocate(limits_.logits_tasks() * sizeof(OracleState), "workspace"));
  MAMBAD_ASSIGN_OR_RETURN(staging_, kernels::HostBuffer::Create(*device_, hidden_.bytes()));
  if (!device_->is_gpu()) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(stream_->BeginRecording());
  MAMBAD_ASSIGN_OR_RETURN(graph_, stream_->EndRecording());
  return absl::OkStatus();
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

void OracleModel::Check(const Batch& batch, const StateView& state, bool resumes) const {
  MAMBAD_CHECK(batch.decode_slots.size() <= limits_.decode_rows);
  MAMBAD_CHECK(batch.decode_tokens.size() == batch.decode_slots.size());
  MAMBAD_CHECK(batch.prompt_tokens.size() <= limits_.prompt_tokens);
  MAMBAD_CHECK(batch.logits.size() <= limits_.logits_tasks());
  MAMBAD_CHECK(batch.chunk_offsets.size() == (batch.chunk_slots.empty() ? 0 : batch.chunk_slots.size() + 1));
  std::set<int32_t> slots;
  const auto claim = [&](int32_t slot) {
    MAMBAD_CHECK(slot >= 0 && slot < state.slots && slots.insert(slot).second);
  };
  std::ranges::for_each(batch.decode_slots, claim);
  for (const int32_t slot : batch.chunk_slots) {
    if (!resumes || slot != kernels::kNoSlot) claim(slot);
  }
  MAMBAD_CHECK(batch.chunk_wide.size() == (layout_.narrow() ? batch.chunk_slots.size() : 0));
  std::set<int32_t> wide;
  for (const WideChunk& chunk : batch.chunk_wide) {
    if (resumes && chunk.slot == kernels::kNoSlot) continue;
    MAMBAD_CHECK(chunk.slot >= 0 && chunk.slot < state.wide_slots && wide.insert(chunk.slot).second);
  }
  for (const uint32_t token : batch.prompt_tokens) MAMBAD_CHECK(token < kVocab);
  for (const LogitsTask& task : batch.logits) MAMBAD_CHECK(task.sampling == nullptr || !task.target);
}

bool OracleModel::Fails() {
  if (!fail_after_ || (*fail_after_)-- > 0) return false;
  fail_after_ = 0;
  return true;
}

absl::Status OracleModel::Forward(const Batch& batch, const StateView& view,
                                  std::vector<LogitsResult>* results) {
  ++forwards_;
  MAMBAD_CHECK(steps_.empty());
  if (Fails()) return absl::InternalError("the oracle was told to fail");
  return Run(batch, view, results);
}

absl::Status OracleModel::ForwardParts(const Batch& batch, const StateView& view, uint32_t first,
                                       uint32_t last, std::vector<LogitsResult>* results) {
  MAMBAD_CHECK((first == 0 || first == parts_done_) && first < last && last <= parts_ &&
               batch.decode_slots.empty());
  ++forwards_;
  MAMBAD_CHECK(steps_.empty());
  if (Fails()) return absl::InternalError("the oracle was told to fail");
  MAMBAD_RETURN_IF_ERROR(stream_->Synchronize());  // a device that has failed took the slots away
  const bool resumes = first > 0;
  Check(batch, view, resumes);
  for (size_t c = 0; c < batch.chunk_wide.size(); ++c)
    MAMBAD_CHECK((batch.chunk_slots[c] == kernels::kNoSlot) ==
                 (batch.chunk_wide[c].slot == kernels::kNoSlot));
  for (const LogitsTask& task : batch.logits) {
    if (task.source != LogitsSource::kPromptToken) continue;
    const auto end = std::ranges::upper_bound(batch.chunk_offsets, task.index);
    const bool given_up = batch.chunk_slots[end - batch.chunk_offsets.begin() - 1] == kernels::kNoSlot;
    MAMBAD_CHECK(!given_up || (task.sampling == nullptr && !task.target && task.top_logprobs == 0));
  }
  if (!resumes) pass_begin_.clear();
  for (size_t c = 0; c < batch.chunk_slots.size(); ++c) {
    const WideChunk* const wide = batch.chunk_wide.empty() ? nullptr : &batch.chunk_wide[c];
    const int32_t slot = batch.chunk_slots[c];
    if (!resumes) pass_begin_.push_back(LoadPrompt(view, slot, wide));
    if (slot == kernels::kNoSlot) continue;
    const OracleState half_done = {.poisoned = 2};
    StoreHalfDone(view, slot, wide, last < parts_ ? half_done : pass_begin_[c]);
  }
  parts_done_ = last % parts_;
  return last < parts_ ? absl::OkStatus() : Run(batch, view, results, resumes);
}

absl::Status OracleModel::Launch(const Batch& batch, const StateView& view) {
  MAMBAD_CHECK(static_cast<int>(steps_.size()) < launches_max());
  MAMBAD_CHECK(!batch.decode_slots.empty() && batch.chunk_slots.empty());
  MAMBAD_CHECK(batch.logits.size() == batch.decode_slots.size());
  order_.Follow(batch);
  LaunchedStep& step =
      steps_.emplace_back(LaunchedStep{.batch = batch, .sampling = {}, .view = view, .results = {}});
  for (LogitsTask& task : step.batch.logits) {
    MAMBAD_CHECK(task.source == LogitsSource::kDecodeRow && !task.target);
    if (task.sampling != nullptr) task.sampling = &step.sampling.emplace_back(*task.sampling);
  }
  return ahead_ == Ahead::kEarly ? RunStep(&step) : absl::OkStatus();
}

absl::Status OracleModel::Collect(std::vector<LogitsResult>* results) {
  ++forwards_;
  MAMBAD_CHECK(!steps_.empty());
  LaunchedStep& step = steps_.front();
  if (Fails()) return absl::InternalError("the oracle was told to fail");
  if (ahead_ == Ahead::kLate) MAMBAD_RETURN_IF_ERROR(RunStep(&step));
  *results = std::move(step.results);
  steps_.pop_front();
  return absl::OkStatus();
}

absl::Status OracleModel::RunStep(LaunchedStep* step) {
  MAMBAD_RETURN_IF_ERROR(stream_->Synchronize());  // as ForwardParts
  const Batch& from = step->batch;
  Batch rows;  // those that are not retired
  std::deque<SamplingRow> sampling;
  std::vector<size_t> places;
  step->results.assign(from.decode_slots.size(), {.finite = false, .token = 0xffffffff});
  for (size_t i = 0; i < from.decode_slots.size(); ++i) {
    const int32_t slot = from.decode_slots[i];
    uint32_t token = from.decode_tokens[i];
    LogitsTask task = from.logits[i];
    MAMBAD_CHECK(task.index == i && (!task.one_unseen || token == kDrawnToken));
    // Given back since the launch: whoever looks at its result fails.
    if (Peek(step->view, slot).poisoned > 1) continue;
    if (token == kDrawnToken) {
      token = drawn_.at(slot);
      const auto stops = std::span(from.stops)
                             .subspan(from.stop_offsets[i], from.stop_offsets[i + 1] - from.stop_offsets[i]);
      if (std::ranges::find(stops, token) != stops.end()) continue;
      // What a poisoned row drew is unspecified.
      if (token >= kVocab) token = 0;
    }
    if (task.one_unseen) task.sampling = &sampling.emplace_back(After(*task.sampling, token));
    task.index = static_cast<uint32_t>(rows.decode_slots.size());
    rows.decode_slots.push_back(slot);
    rows.decode_tokens.push_back(token);
    rows.logits.push_back(task);
    places.push_back(i);
  }
  std::vector<LogitsResult> results;
  MAMBAD_RETURN_IF_ERROR(Run(rows, step->view, &results));
  for (size_t i = 0; i < places.size(); ++i) {
    drawn_[rows.decode_slots[i]] = results[i].token;
    step->results[places[i]] = std::move(results[i]);
  }
  return absl::OkStatus();
}

absl::Status OracleModel::Run(const Batch& batch, const StateView& view, std::vector<LogitsResult>* results,
                              bool resumes) {
  Check(batch, view, resumes);
  MAMBAD_RETURN_IF_ERROR(Upload(batch));
  if (stream_->on_gpu()) MAMBAD_RETURN_IF_ERROR(stream_->Replay(graph_));
  Step(batch, view);
  const size_t tasks = batch.logits.size();
  MAMBAD_RETURN_IF_ERROR(
      kernels::CopyToHost(*stream_, staging_.as<std::byte>(), hidden_.data(), tasks * sizeof(OracleState)));
  MAMBAD_RETURN_IF_ERROR(stream_->Synchronize());
  decode_tokens_ += batch.decode_slots.size();
  prompt_tokens_ += batch.prompt_tokens.size();

  results->clear();
  for (size_t i = 0; i < tasks; ++i) {
    results->push_back(Answer(staging_.as<OracleState>()[i], batch.logits[i]));
  }
  return absl::OkStatus();
}

// The arrays of the batch one after the other, as Step takes them.
absl::Status OracleModel::Upload(const Batch& batch) {
  std::vector<uint32_t> words;
  const auto put = [&](const auto& array) { words.insert(words.end(), array.begin(), array.end()); };
  put(batch.decode_slots);
  put(batch.decode_tokens);
  put(batch.chunk_slots);
  put(batch.chunk_offsets);
  put(batch.prompt_tokens);
  for (const LogitsTask& task : batch.logits) {
    words.push_back(static_cast<uint32_t>(task.source));
    words.push_back(static_cast<uint32_t>(task.index));
  }
  return kernels::CopyToDevice(*stream_, tables_.data(), words.data(), words.size() * sizeof(uint32_t));
}

// What a GPU's kernels do: from device memory to device memory. `shape`: the lengths of the
// arrays and the wide slots alone.
void OracleModel::Step(const Batch& shape, const StateView& view) {
  const uint32_t* next = tables_.as<uint32_t>();
  const auto take = [&](size_t count) {
    return std::span<const uint32_t>(std::exchange(next, next + count), count);
  };
  const auto decode_slots = take(shape.decode_slots.size());
  const auto decode_tokens = take(shape.decode_tokens.size());
  const auto chunk_slots = take(shape.chunk_slots.size());
  const auto chunk_offsets = take(shape.chunk_offsets.size());
  const auto prompt_tokens = take(shape.prompt_tokens.size());
  const auto tasks = take(2 * shape.logits.size());

  std::vector<OracleState> before(shape.logits.size());
  for (size_t i = 0; i < before.size(); ++i) {
    if (tasks[2 * i] != static_cast<uint32_t>(LogitsSource::kSlot)) continue;
    const LogitsTask& task = shape.logits[i];
    const auto slot = static_cast<int32_t>(tasks[2 * i + 1]);
    // A task that asks for nothing may be of a request that has ended.
    before[i] = task.sampling != nullptr || task.target ? Load(view, slot) : Peek(view, slot);
  }
  std::vector<OracleState> decoded;
  for (size_t i = 0; i < decode_slots.size(); ++i) {
    const auto slot = static_cast<int32_t>(decode_slots[i]);
    decoded.push_back(Consume(Load(view, slot), decode_tokens[i], false));
    Store(view, slot, decoded.back());
  }
  std::vector<OracleState> read;
  for (size_t c = 0; c < chunk_slots.size(); ++c) {
    const auto slot = static_cast<int32_t>(chunk_slots[c]);
    const WideChunk* const wide = shape.chunk_wide.empty() ? nullptr : &shape.chunk_wide[c];
    if (slot == kernels::kNoSlot) {  // given up
      read.resize(chunk_offsets[c + 1]);
      continue;
    }
    OracleState state = LoadPrompt(view, slot, wide);
    for (uint32_t t = chunk_offsets[c]; t < chunk_offsets[c + 1]; ++t) {
      state = Consume(state, prompt_tokens[t], true);
      read.push_back(state);
    }
    StorePrompt(view, slot, wide, state);
  }
  for (size_t i = 0; i < before.size(); ++i) {
    const auto source = static_cast<LogitsSource>(tasks[2 * i]);
    const uint32_t index = tasks[2 * i + 1];
    hidden_.as<OracleState>()[i] = source == LogitsSource::kSlot        ? before[i]
                                   : source == LogitsSource::kDecodeRow ? decoded.at(index)
                                                                        : read.at(index);
  }
}

}  // namespace mambad

#include "engine/model/mixer_model.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/digest.h"
#include "engine/model/registry.h"
#include "engine/model/workspace.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using kernels::WeightPrecision;

constexpr char kEmbedding[] = "backbone.embeddings.weight";
constexpr char kFinalNorm[] = "backbone.norm_f.weight";
constexpr char kHead[] = "lm_head.weight";

// Bumped when a kernel's results change in any bit: part of the numerics id.
constexpr int kKernelGeneration = 4;

constexpr uint32_t kMaxLimit = 1u << 16;
constexpr size_t kWideAlignment = 16;
// 2^40 parameters: no file of this size exists, and every sum of bytes below stays far from 2^64.
constexpr uint64_t kMaxParameters = uint64_t{1} << 40;

std::vector<TensorSpec> OuterTensors(const ModelConfig& config) {
  std::vector<TensorSpec> tensors = {
      {kEmbedding, {config.vocab_size, config.d_model}, TensorInit::kEmbedding},
      {kFinalNorm, {config.d_model}, TensorInit::kOnes},
  };
  if (!config.tie_embeddings)
    tensors.push_back({kHead, {config.vocab_size, config.d_model}, TensorInit::kFanIn});
  return tensors;
}

absl::Status CheckLimits(const ForwardLimits& limits) {
  for (const uint32_t limit : {limits.decode_rows, limits.prompt_tokens}) {
    if (limit < 1 || limit > kMaxLimit)
      return absl::InvalidArgumentError(
          absl::StrCat("decode rows and prompt tokens of a batch must be in [1, ", kMaxLimit, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(std::span<const uint32_t> tokens, int64_t vocab_size, std::string_view what) {
  for (const uint32_t token : tokens) {
    if (token >= vocab_size)
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(what), ": token id not below the vocabulary's ", vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelPlan> ModelPlan::Of(const ModelConfig& config, kernels::DType state_dtype) {
  const MixerEntry* entry = FindMixerByType(config.model_type);
  MAMBAD_CHECK(entry != nullptr);
  ModelPlan plan;
  plan.config = config;
  plan.tensors = OuterTensors(config);
  plan.blocks.reserve(static_cast<size_t>(config.n_layer));
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    MAMBAD_ASSIGN_OR_RETURN(std::unique_ptr<Mixer> mixer, entry->create(config, state_dtype));
    const Block& block =
        plan.blocks.emplace_back(layer, config.d_model, config.norm_epsilon, std::move(mixer));
    for (TensorSpec& spec : block.Tensors()) plan.tensors.push_back(std::move(spec));
  }
  for (const TensorSpec& spec : plan.tensors) plan.parameters += static_cast<uint64_t>(spec.elements());
  if (plan.parameters > kMaxParameters)
    return config.fields->Error("num_hidden_layers", "and the widths give more than 2^40 parameters");
  plan.state_layout = BuildStateLayout(plan.blocks.front().mixer().State(), config.n_layer, config.d_model);
  for (Block& block : plan.blocks) block.PlaceState(plan.state_layout);
  return plan;
}

absl::StatusOr<std::unique_ptr<MixerModel>> MixerModel::Create(ModelPlan plan, WeightSource& weights,
                                                               std::unique_ptr<kernels::Device> device,
                                                               WeightPrecision precision,
                                                               const ForwardLimits& limits,
                                                               const LoadProgress& progress) {
  MAMBAD_RETURN_IF_ERROR(CheckLimits(limits));
  for (const TensorSpec& spec : plan.tensors) MAMBAD_RETURN_IF_ERROR(weights.Check(spec));
  std::unique_ptr<MixerModel> model(new MixerModel());
  model->device_ = std::move(device);
  model->limits_ = limits;
  if (model->device_->is_gpu())
    model->limits_.decode_rows = std::min<uint32_t>(limits.decode_rows, kernels::kMaxStepRows);
  model->state_layout_ = plan.state_layout;
  MAMBAD_ASSIGN_OR_RETURN(model->stream_, kernels::Stream::Create(*model->device_));
  MAMBAD_RETURN_IF_ERROR(model->Bind(std::move(plan), weights, precision, progress));
  MAMBAD_RETURN_IF_ERROR(model->AllocateWorkspace());
  return model;
}

absl::Status MixerModel::Bind(ModelPlan plan, WeightSource& weights, WeightPrecision precision,
                              const LoadProgress& progress) {
  const ModelConfig& config = plan.config;
  const uint64_t element_bytes = precision == WeightPrecision::kBf16 ? 2 : 4;
  uint64_t elements_done = 0;
  WeightLoader loader(weights, *device_, *stream_, precision, [&](int64_t elements) {
    elements_done += static_cast<uint64_t>(elements);
    if (progress) progress(elements_done * element_bytes, plan.parameters * element_bytes);
  });
  const std::vector<TensorSpec> outer = OuterTensors(config);
  loader.Select(outer, "");
  MAMBAD_ASSIGN_OR_RETURN(kernels::PackedLinear head,
                          loader.Matrix(config.tie_embeddings ? kEmbedding : kHead));
  MAMBAD_ASSIGN_OR_RETURN(kernels::DeviceBuffer norm, loader.Vector(kFinalNorm));
  MAMBAD_ASSIGN_OR_RETURN(head_, Head::Create(*device_, std::move(head), std::move(norm), config.norm_epsilon,
                                              int64_t{limits_.logits_tasks()}));
  if (config.tie_embeddings) {
    embedding_ = kernels::Embedding::Tied(head_->linear());
  } else {
    MAMBAD_ASSIGN_OR_RETURN(embedding_, loader.Table(kEmbedding));
  }
  blocks_ = std::move(plan.blocks);
  for (Block& block : blocks_) MAMBAD_RETURN_IF_ERROR(block.Bind(loader));
  if (FusedStack::OfferedBy(blocks_)) {
    state_layout_ = BuildStateLayout(blocks_.front().fused()->FusedState(), config.n_layer, config.d_model);
    for (Block& block : blocks_) block.PlaceState(state_layout_);
  }
  Describe(config, plan.parameters, weights, precision, loader.device_bytes(), loader.read_bytes());
  return absl::OkStatus();
}

void MixerModel::Describe(const ModelConfig& config, uint64_t parameters, const WeightSource& weights,
                          WeightPrecision precision, uint64_t weight_bytes, uint64_t decode_weight_bytes) {
  info_.model_type = config.model_type;
  info_.precision = precision == WeightPrecision::kBf16 ? "bf16" : "f32";
  info_.state_dtype = state_layout_.narrow() ? "bf16" : "f32";
  info_.vocab_size = config.vocab_size;
  info_.d_model = config.d_model;
  info_.n_layer = config.n_layer;
  blocks_.front().mixer().Describe(&info_);
  info_.parameters = parameters;
  info_.weight_bytes = weight_bytes;
  info_.decode_weight_bytes = decode_weight_bytes;
  info_.embedding_row_bytes = embedding_.row_bytes();
  info_.eos_token_ids = config.eos_token_ids;
  Digest digest;
  digest.Add(weights.digest());
  digest.Add(blocks_.front().mixer().Identity());
  digest.Add(absl::StrCat("norm ", config.norm_epsilon, ", tied ", config.tie_embeddings));
  info_.digest = digest.Hex();
  // The two paths of a GPU differ in the order of their sums.
  const std::string path = !device_->is_gpu() ? "" : FusedStack::OfferedBy(blocks_) ? "-fused" : "-general";
  info_.numerics_id = absl::StrCat(device_->Architecture(), path, "/", info_.precision, "/state-",
                                   info_.state_dtype, "/kernels-", kKernelGeneration);
}

absl::Status MixerModel::AllocateWorkspace() {
  const int64_t rows = std::max(limits_.decode_rows, limits_.prompt_tokens);
  const int64_t prompt_floats = AlignedFloats(int64_t{limits_.prompt_tokens} * info_.d_model);
  const int64_t task_floats = AlignedFloats(int64_t{limits_.logits_tasks()} * info_.d_model);
  // The fused path has workspaces of its own.
  const bool fused = FusedStack::OfferedBy(blocks_);
  const int64_t decode_floats = fused ? 0 : AlignedFloats(int64_t{limits_.decode_rows} * info_.d_model);
  const int64_t normed_floats = fused ? 0 : AlignedFloats(rows * info_.d_model);
  const auto mixer_floats = fused ? 0 : static_cast<int64_t>(blocks_.front().mixer().WorkspaceFloats(rows));
  const int64_t floats = decode_floats + prompt_floats + normed_floats + task_floats + mixer_floats;
  MAMBAD_ASSIGN_OR_RETURN(workspace_, device_->Allocate(floats * sizeof(float), "workspace"));
  residual_ = workspace_.as<float>();
  prompt_residual_ = residual_ + decode_floats;
  normed_ = prompt_residual_ + prompt_floats;
  head_hidden_ = normed_ + normed_floats;
  mixer_workspace_ = head_hidden_ + task_floats;
  MAMBAD_ASSIGN_OR_RETURN(tables_, BatchTables::Create(*device_, limits_, state_layout_.narrow()));
  MAMBAD_ASSIGN_OR_RETURN(fused_, FusedStack::Create(*device_, blocks_, embedding_, *head_, limits_,
                                                     {PackedChunks(0), prompt_residual_},
                                                     static_cast<int64_t>(state_layout_.last_hidden_offset)));
  if (fused_ != nullptr) {
    MAMBAD_RETURN_IF_ERROR(head_->Fuse(*device_));
    const int32_t bucket = kernels::StepBucket(static_cast<int32_t>(limits_.decode_rows));
    MAMBAD_ASSIGN_OR_RETURN(feed_,
                            StepFeed::Create(*device_, bucket, kStopTokensMax + info_.eos_token_ids.size()));
    for (LaunchedStep& step : launched_) {
      MAMBAD_ASSIGN_OR_RETURN(step.done, kernels::Event::Create(*device_));
    }
  }
  info_.workspace_bytes = workspace_.bytes() + tables_.bytes() + head_->workspace_bytes() +
                          (fused_ != nullptr ? fused_->bytes() + feed_.bytes() : 0) +
                          kernels::Stream::kWorkspaceBytes;
  return absl::OkStatus();
}

absl::Status MixerModel::ClaimSlot(int32_t slot, const StateView& state) {
  if (slot < 0 || slot >= state.slots)
    return absl::InvalidArgumentError(absl::StrCat("slot not in [0, ", state.slots, ")"));
  if (slot_claimed_[slot] != 0) return absl::InvalidArgumentError("slot named by two rows");
  slot_claimed_[slot] = 1;
  return absl::OkStatus();
}

absl::Status MixerModel::ClaimSlots(const Batch& batch, const StateView& state, bool resumes) {
  slot_claimed_.assign(static_cast<size_t>(state.slots), 0);
  for (const int32_t slot : batch.decode_slots) MAMBAD_RETURN_IF_ERROR(ClaimSlot(slot, state));
  for (const int32_t slot : batch.chunk_slots) {
    if (!resumes || slot != kernels::kNoSlot) MAMBAD_RETURN_IF_ERROR(ClaimSlot(slot, state));
  }
  return absl::OkStatus();
}

absl::Status MixerModel::CheckWide(const Batch& batch, const StateView& state, bool resumes) const {
  if (batch.chunk_wide.size() != (state_layout_.narrow() ? batch.chunk_slots.size() : 0))
    return absl::InvalidArgumentError("every chunk of a narrow state needs a wide slot, and no other does");
  if (batch.chunk_wide.empty()) return absl::OkStatus();
  if (state.wide_stride < state_layout_.wide_stride || state.wide_stride % kWideAlignment != 0 ||
      reinterpret_cast<uintptr_t>(state.wide_base) % kWideAlignment != 0)
    return absl::InvalidArgumentError(absl::StrCat("wide slots must hold ", state_layout_.wide_stride,
                                                   " bytes, and lie at multiples of ", kWideAlignment));
  std::vector<int32_t> slots;
  for (const WideChunk& chunk : batch.chunk_wide) {
    if (!resumes || chunk.slot != kernels::kNoSlot) slots.push_back(chunk.slot);
  }
  if (slots.empty()) return absl::OkStatus();
  std::ranges::sort(slots);
  if (slots.front() < 0 || slots.back() >= state.wide_slots)
    return absl::InvalidArgumentError(absl::StrCat("wide slot not in [0, ", state.wide_slots, ")"));
  if (std::ranges::adjacent_find(slots) != slots.end())
    return absl::InvalidArgumentError("wide slot named by two chunks");
  return absl::OkStatus();
}

absl::Status MixerModel::Check(const Batch& batch, const StateView& state, bool resumes) const {
  const size_t decode_rows = batch.decode_slots.size();
  const size_t chunks = batch.chunk_slots.size();
  const size_t tokens = batch.prompt_tokens.size();
  const size_t alignment = fused_ != nullptr        ? kernels::kStepSlotAlignment
                           : state_layout_.narrow() ? alignof(kernels::RoundingKey)
                                                    : sizeof(float);
  if (state.stride < state_layout_.bytes || state.stride % alignment != 0 ||
      reinterpret_cast<uintptr_t>(state.base) % alignment != 0)
    return absl::InvalidArgumentError(absl::StrCat("slot stride must hold ", state_layout_.bytes,
                                                   " bytes, and slots lie at multiples of ", alignment));
  if (decode_rows > limits_.decode_rows || batch.decode_tokens.size() != decode_rows)
    return absl::InvalidArgumentError(
        absl::StrCat("decode rows must be at most ", limits_.decode_rows, ", with one token each"));
  if (tokens > limits_.prompt_tokens)
    return absl::InvalidArgumentError(absl::StrCat("prompt tokens must be at most ", limits_.prompt_tokens));
  if (batch.chunk_offsets.size() != (chunks == 0 ? 0 : chunks + 1) || (chunks == 0 && tokens != 0) ||
      (chunks != 0 && (batch.chunk_offsets.front() != 0 || batch.chunk_offsets.back() != tokens)))
    return absl::InvalidArgumentError("chunk offsets must run from 0 to the number of prompt tokens");
  for (size_t i = 0; i < chunks; ++i) {
    if (batch.chunk_offsets[i] >= batch.chunk_offsets[i + 1])
      return absl::InvalidArgumentError("a chunk must have at least one token");
  }
  MAMBAD_RETURN_IF_ERROR(CheckWide(batch, state, resumes));
  return CheckTokens(batch.prompt_tokens, info_.vocab_size, "prompt");
}

absl::Status MixerModel::CheckTasks(const Batch& batch, const StateView& state) const {
  if (batch.logits.size() > static_cast<size_t>(int64_t{limits_.logits_tasks()}))
    return absl::InvalidArgumentError(
        absl::StrCat("logits tasks must be at most ", int64_t{limits_.logits_tasks()}));
  for (const LogitsTask& task : batch.logits) {
    const size_t bound = task.source == LogitsSource::kDecodeRow     ? batch.decode_slots.size()
                         : task.source == LogitsSource::kPromptToken ? batch.prompt_tokens.size()
                                                                     : static_cast<size_t>(state.slots);
    if (task.index >= bound) return absl::InvalidArgumentError("logits task names a row that is not there");
    if (task.target && *task.target >= info_.vocab_size)
      return absl::InvalidArgumentError("logits task: target not in the vocabulary");
    if (task.target && task.sampling != nullptr)
      return absl::InvalidArgumentError("logits task: both a sample and a target");
    if (task.top_logprobs > kernels::kMaxTopLogprobs)
      return absl::InvalidArgumentError(
          absl::StrCat("logits task: top_logprobs above ", kernels::kMaxTopLogprobs));
  }
  return absl::OkStatus();
}

absl::Status MixerModel::Forward(const Batch& batch, const StateView& state,
                                 std::vector<LogitsResult>* results) {
  MAMBAD_CHECK(waiting_ == 0);
  MAMBAD_RETURN_IF_ERROR(CheckTokens(batch.decode_tokens, info_.vocab_size, "decode row"));
  if (IsStep(batch)) {
    MAMBAD_RETURN_IF_ERROR(Launch(batch, state));
    if (head_->observed()) {
      std::vector<uint32_t> tasks(batch.logits.size());
      std::iota(tasks.begin(), tasks.end(), 0u);
      MAMBAD_RETURN_IF_ERROR(head_->ShowLogits(*stream_, tasks));
    }
    return Collect(results);
  }
  return Run(batch, state, AllParts(), results);
}

absl::Status MixerModel::ForwardParts(const Batch& batch, const StateView& state, uint32_t first,
                                      uint32_t last, std::vector<LogitsResult>* results) {
  MAMBAD_CHECK(waiting_ == 0 && batch.decode_slots.empty() && first < last && last <= parts());
  return Run(batch, state, {first, last}, results);
}

absl::Status MixerModel::Run(const Batch& batch, const StateView& state, Parts range,
                             std::vector<LogitsResult>* results) {
  const bool resumes = range.first > 0;
  MAMBAD_RETURN_IF_ERROR(Check(batch, state, resumes));
  MAMBAD_RETURN_IF_ERROR(CheckTasks(batch, state));
  MAMBAD_RETURN_IF_ERROR(ClaimSlots(batch, state, resumes));
  MAMBAD_RETURN_IF_ERROR(tables_.Fill(*stream_, batch, head_->Arrange(batch.logits)));
  const auto asks = [&](LogitsSource source) {
    return std::ranges::any_of(batch.logits, [&](const LogitsTask& task) { return task.source == source; });
  };
  const auto tokens = static_cast<int64_t>(batch.prompt_tokens.size());
  const auto chunks = static_cast<int64_t>(batch.chunk_slots.size());
  if (range.last < parts()) {
    if (chunks > 0) MAMBAD_RETURN_IF_ERROR(RunPrefill(tokens, chunks, state, range));
    return stream_->Synchronize();
  }
  const size_t tasks = batch.logits.size();
  // Before any row runs, or leaves its hidden row: a slot's as it was before the pass.
  if (asks(LogitsSource::kSlot)) MAMBAD_RETURN_IF_ERROR(Gather(LastHidden(state), tables_.slot_of(), tasks));
  if (!batch.decode_slots.empty()) {
    MAMBAD_RETURN_IF_ERROR(RunDecode(batch, state));
    if (asks(LogitsSource::kDecodeRow))
      MAMBAD_RETURN_IF_ERROR(Gather(RowsOf(DecodeResidual()), tables_.decode_row_of(), tasks));
  }
  if (chunks > 0) {
    MAMBAD_RETURN_IF_ERROR(RunPrefill(tokens, chunks, state, range));
    if (asks(LogitsSource::kPromptToken))
      MAMBAD_RETURN_IF_ERROR(Gather(RowsOf(prompt_residual_), tables_.prompt_token_of(), tasks));
  }
  results->resize(tasks);
  MAMBAD_RETURN_IF_ERROR(head_->Run(*stream_, head_hidden_, batch.logits, *results));
  return stream_->Synchronize();
}

bool MixerModel::IsStep(const Batch& batch) const {
  if (fused_ == nullptr || batch.decode_slots.empty() || !batch.chunk_slots.empty() ||
      batch.logits.size() != batch.decode_slots.size())
    return false;
  for (size_t i = 0; i < batch.logits.size(); ++i) {
    const LogitsTask& task = batch.logits[i];
    if (task.source != LogitsSource::kDecodeRow || task.index != i || task.target) return false;
  }
  return true;
}

int MixerModel::launches_max() const {
  return fused_ != nullptr && !head_->observed() ? StepFeed::kStepsMax : 0;
}

absl::Status MixerModel::Launch(const Batch& batch, const StateView& state) {
  MAMBAD_CHECK(IsStep(batch) && waiting_ < StepFeed::kStepsMax);
  for (const uint32_t token : batch.decode_tokens) {
    if (token >= info_.vocab_size && token != kDrawnToken)
      return absl::InvalidArgumentError(
          absl::StrCat("decode row: token id not below the vocabulary's ", info_.vocab_size));
  }
  MAMBAD_RETURN_IF_ERROR(Check(batch, state));
  MAMBAD_RETURN_IF_ERROR(ClaimSlots(batch, state));
  order_.Follow(batch);
  MAMBAD_RETURN_IF_ERROR(RunDecode(batch, state));
  MAMBAD_RETURN_IF_ERROR(head_->EnqueueDraws(*stream_, batch.logits, feed_.drawn(), batch.decode_slots));
  LaunchedStep& step = launched_[(oldest_ + waiting_) % StepFeed::kStepsMax];
  step.rows = batch.decode_slots.size();
  ++waiting_;
  return stream_->Record(step.done);
}

absl::Status MixerModel::Collect(std::vector<LogitsResult>* results) {
  MAMBAD_CHECK(waiting_ > 0);
  const LaunchedStep& step = launched_[oldest_];
  oldest_ = (oldest_ + 1) % StepFeed::kStepsMax;
  --waiting_;
  MAMBAD_RETURN_IF_ERROR(step.done.Wait());
  results->resize(step.rows);
  head_->TakeDraws(*results);
  return absl::OkStatus();
}

BlockCall MixerModel::CallFor(float* residual, int64_t rows, const StateView& state) {
  return {stream_.get(), residual, normed_, mixer_workspace_, rows, state};
}

absl::Status MixerModel::Prepare(const StateView& state) {
  if (fused_ == nullptr) return absl::OkStatus();
  MAMBAD_CHECK(static_cast<uint32_t>(state.slots) <= kStateSlotsMax);
  return fused_->Prepare(*stream_, feed_, state);
}

absl::Status MixerModel::RunDecode(const Batch& batch, const StateView& state) {
  const auto rows = static_cast<int64_t>(batch.decode_slots.size());
  if (fused_ != nullptr) {
    if (!fused_->prepared_for(state)) MAMBAD_RETURN_IF_ERROR(Prepare(state));
    MAMBAD_RETURN_IF_ERROR(feed_.Enqueue(*stream_, batch, kernels::StepBucket(static_cast<int32_t>(rows))));
    MAMBAD_RETURN_IF_ERROR(fused_->Decode(*stream_, rows, state));
    // Rows that the feed has retired have no slot: their keys stay.
    return AdvanceKeys(state, feed_.slots(), nullptr, kernels::StepBucket(static_cast<int32_t>(rows)));
  }
  MAMBAD_RETURN_IF_ERROR(kernels::EmbeddingLookup(
      *stream_, embedding_,
      {.ids = tables_.decode_tokens(), .out = residual_, .ldo = info_.d_model, .rows = rows}));
  const BlockCall call = CallFor(residual_, rows, state);
  for (Block& block : blocks_) MAMBAD_RETURN_IF_ERROR(block.Step(call, tables_.decode_slots()));
  MAMBAD_RETURN_IF_ERROR(AdvanceKeys(state, tables_.decode_slots(), nullptr, rows));
  return SaveHidden(RowsOf(residual_), nullptr, state, tables_.decode_slots(), rows);
}

absl::Status MixerModel::SaveHidden(const kernels::RowTable& from, const int32_t* from_index,
                                    const StateView& state, const int32_t* slots, int64_t rows) {
  return kernels::CopyRows(*stream_, {.from = from,
                                      .from_index = from_index,
                                      .to = LastHidden(state),
                                      .to_index = slots,
                                      .rows = rows,
                                      .width = info_.d_model});
}

MixerChunks MixerModel::PackedChunks(int64_t chunks) const {
  return {chunks, tables_.chunk_offsets(), tables_.chunk_slots(), tables_.wide_slots()};
}

absl::Status MixerModel::RunPrefill(int64_t tokens, int64_t chunks, const StateView& state, Parts range) {
  if (range.first == 0) {
    MAMBAD_RETURN_IF_ERROR(kernels::EmbeddingLookup(
        *stream_, embedding_,
        {.ids = tables_.prompt_tokens(), .out = prompt_residual_, .ldo = info_.d_model, .rows = tokens}));
    MAMBAD_RETURN_IF_ERROR(WidenBegun(state, chunks));
  }
  const uint32_t end = std::min(range.last, layers());
  if (fused_ != nullptr) {
    MAMBAD_RETURN_IF_ERROR(fused_->Prompt(*stream_, chunks, tokens, state, range.first, end));
  } else {
    const MixerChunks packed = PackedChunks(chunks);
    const BlockCall call = CallFor(prompt_residual_, tokens, state);
    for (uint32_t layer = range.first; layer < end; ++layer)
      MAMBAD_RETURN_IF_ERROR(blocks_[layer].Prefill(call, packed));
  }
  if (range.last < parts()) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(AdvanceKeys(state, tables_.chunk_slots(), tables_.chunk_offsets(), chunks));
  MAMBAD_RETURN_IF_ERROR(RoundEnded(state, chunks));
  return SaveHidden(RowsOf(prompt_residual_), tables_.last_tokens(), state, tables_.chunk_slots(), chunks);
}

absl::Status MixerModel::AdvanceKeys(const StateView& state, const int32_t* slots, const int64_t* offsets,
                                     int64_t rows) {
  if (!state_layout_.narrow()) return absl::OkStatus();
  const kernels::SlotView view = {
      .base = state.base, .slot_stride_bytes = static_cast<int64_t>(state.stride), .slots = state.slots};
  return kernels::AdvanceKeys(*stream_,
                              {.slots = view, .rows = rows, .slot_index = slots, .offsets = offsets});
}

absl::Status MixerModel::WidenBegun(const StateView& state, int64_t chunks) {
  if (!state_layout_.narrow()) return absl::OkStatus();
  return kernels::WidenStates(*stream_, NarrowArgs(state, tables_.begin_slots(), chunks));
}

absl::Status MixerModel::RoundEnded(const StateView& state, int64_t chunks) {
  if (!state_layout_.narrow()) return absl::OkStatus();
  return kernels::RoundStates(*stream_, NarrowArgs(state, tables_.end_slots(), chunks));
}

kernels::NarrowStateArgs MixerModel::NarrowArgs(const StateView& state, const int32_t* slots,
                                                int64_t chunks) const {
  const StateTensor& tensor = *std::ranges::find_if(state_layout_.tensors, &StateTensor::narrow);
  return {.narrow = {.base = state.base,
                     .slot_stride_bytes = static_cast<int64_t>(state.stride),
                     .layer_offset_bytes = static_cast<int64_t>(tensor.offset),
                     .slots = state.slots,
                     .dtype = tensor.spec.dtype},
          .narrow_layer_stride = static_cast<int64_t>(tensor.layer_stride),
          .wide = {.base = state.wide_base,
                   .slot_stride_bytes = static_cast<int64_t>(state.wide_stride),
                   .slots = state.wide_slots},
          .wide_layer_stride = static_cast<int64_t>(tensor.wide_layer_stride),
          .layers = tensor.n_layer,
          .state_size = tensor.spec.shape[1],
          .channels = tensor.spec.shape[0],
          .rows = chunks,
          .narrow_slot = slots,
          .wide_slot = tables_.wide_slots()};
}

absl::Status MixerModel::Gather(const kernels::RowTable& from, const int32_t* index, size_t tasks) {
  return kernels::CopyRows(*stream_, {.from = from,
                                      .from_index = index,
                                      .to = {reinterpret_cast<std::byte*>(head_hidden_), RowBytes()},
                                      .rows = static_cast<int64_t>(tasks),
                                      .width = info_.d_model});
}

kernels::RowTable MixerModel::RowsOf(const float* rows) const {
  return {reinterpret_cast<std::byte*>(const_cast<float*>(rows)), RowBytes()};
}

kernels::RowTable MixerModel::LastHidden(const StateView& state) const {
  return {state.base + state_layout_.last_hidden_offset, static_cast<int64_t>(state.stride)};
}

}  // namespace mambad

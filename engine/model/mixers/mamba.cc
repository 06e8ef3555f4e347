// The Mamba-1 mixer, and FalconMamba's, which is the same with a weightless RMS norm on dt, B and C.
//
//   [x, z] = in_proj(u)
//   x      = silu(causal_conv1d(x))
//   [dt, B, C] = x_proj(x)
//   h      <- exp(delta * A) * h + delta * B * x,   delta = softplus(dt_proj(dt) + bias),   A = -exp(A_log)
//   y      = (C . h + D * x) * silu(z)
//   out    = out_proj(y)
//
// Source: Gu & Dao, "Mamba", arXiv:2312.00752, figure 3 and Algorithm 2; the names are those of the authors'
// checkpoints. Zuo et al., "Falcon Mamba", arXiv:2410.05355, section 2, for the norms.
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/fused_mixer.h"
#include "engine/model/mixer.h"
#include "engine/model/mixers/mixers.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_loader.h"
#include "engine/model/workspace.h"
#include "kernels/base/status_macros.h"
#include "kernels/causal_conv1d/causal_conv1d.h"
#include "kernels/linear/linear.h"
#include "kernels/mamba_layer/mamba_layer.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/selective_scan/selective_scan.h"

namespace mambad {
namespace {

using kernels::DeviceBuffer;
using kernels::PackedLinear;

struct MambaShape {
  int64_t d_model = 0;  // M
  int64_t d_inner = 0;  // D
  int64_t d_state = 0;  // N
  int64_t d_conv = 0;   // K
  int64_t dt_rank = 0;  // R
  bool use_bias = false;
  bool use_conv_bias = true;
  std::optional<float> dt_b_c_epsilon;  // FalconMamba: norms on dt, B and C
  kernels::DType state_dtype = kernels::DType::kF32;
};

class Mamba : public Mixer, public FusedMixer {
 public:
  explicit Mamba(const MambaShape& shape) : shape_(shape) {}

  std::vector<TensorSpec> Tensors() const override;
  std::vector<StateSpec> State() const override;
  size_t WorkspaceFloats(int64_t rows) const override;
  void Describe(ModelInfo* info) const override;
  std::string Identity() const override;
  absl::Status Bind(WeightLoader& loader) override;
  absl::Status Step(const MixerCall& call, const int32_t* slot_index) override;
  absl::Status Prefill(const MixerCall& call, const MixerChunks& chunks) override;

  FusedMixer* fused() override { return why_not_fused_.empty() ? this : nullptr; }
  std::string_view why_not_fused() const override { return why_not_fused_; }
  std::vector<StateSpec> FusedState() const override;
  kernels::StepWidths FusedWidths() const override;
  absl::Status FusedStep(kernels::Stream& stream, std::span<const FusedBlockStep> blocks) override;
  size_t FusedPromptBytes(int64_t tokens, int64_t chunks) const override;
  absl::Status FusedPrompt(const FusedPromptCall& call) override;

 private:
  // The parts of the workspace. delta takes y's place in the end.
  struct Scratch {
    float* xz;     // (rows, 2 D)
    float* dt_bc;  // (rows, R + 2 N)
    float* delta;  // (rows, D)
  };
  Scratch Split(const MixerCall& call) const;

  kernels::MambaLayerShape LayerShape() const;
  kernels::MambaLayerWeights LayerWeights() const;

  absl::Status BeforeConv(const MixerCall& call, const Scratch& scratch) const;
  absl::Status BetweenConvAndScan(const MixerCall& call, const Scratch& scratch) const;
  absl::Status AfterScan(const MixerCall& call, const Scratch& scratch) const;

  // The slots of the SSM state's chunks.
  const int32_t* StateIndex(const MixerChunks& chunks) const {
    return shape_.state_dtype == kernels::DType::kF32 ? chunks.slot_index : chunks.wide_index;
  }

  int64_t xz_width() const { return 2 * shape_.d_inner; }
  int64_t dt_bc_width() const { return shape_.dt_rank + 2 * shape_.d_state; }
  kernels::CausalConv1dFilter Filter() const;
  kernels::SelectiveScanParams ScanParams() const;
  kernels::SelectiveScanInputs ScanInputs(const Scratch& scratch) const;

  const MambaShape shape_;
  bool round_input_to_bf16_ = false;
  PackedLinear in_proj_;
  PackedLinear x_proj_;
  PackedLinear dt_proj_;
  PackedLinear out_proj_;
  DeviceBuffer conv_weight_;  // (K, D)
  DeviceBuffer conv_bias_;    // (D), or empty
  DeviceBuffer dt_bias_;      // (D)
  DeviceBuffer decay_log2_;   // (N, D)
  DeviceBuffer skip_;         // (D)
  std::string_view why_not_fused_ = "not bound";
};

std::vector<TensorSpec> Mamba::Tensors() const {
  const auto& [m, d, n, k, r, use_bias, use_conv_bias, epsilon, state_dtype] = shape_;
  std::vector<TensorSpec> tensors = {
      {"in_proj.weight", {2 * d, m}, TensorInit::kFanIn},
      {"conv1d.weight", {d, 1, k}, TensorInit::kFanIn},
      {"x_proj.weight", {r + 2 * n, d}, TensorInit::kFanIn},
      {"dt_proj.weight", {d, r}, TensorInit::kFanIn},
      {"dt_proj.bias", {d}, TensorInit::kDeltaBias},
      {"A_log", {d, n}, TensorInit::kDecay},
      {"D", {d}, TensorInit::kOnes},
      {"out_proj.weight", {m, d}, TensorInit::kResidual},
  };
  if (use_conv_bias) tensors.push_back({"conv1d.bias", {d}, TensorInit::kZeros});
  if (use_bias) {
    tensors.push_back({"in_proj.bias", {2 * d}, TensorInit::kZeros});
    tensors.push_back({"out_proj.bias", {m}, TensorInit::kZeros});
  }
  return tensors;
}

std::vector<StateSpec> Mamba::State() const {
  return {{"conv_state", {shape_.d_inner, shape_.d_conv - 1}, kernels::DType::kF32, StateOrder::kTransposed},
          {"ssm_state", {shape_.d_inner, shape_.d_state}, shape_.state_dtype, StateOrder::kTransposed}};
}

size_t Mamba::WorkspaceFloats(int64_t rows) const {
  return static_cast<size_t>(AlignedFloats(rows * xz_width()) + AlignedFloats(rows * dt_bc_width()) +
                             AlignedFloats(rows * shape_.d_inner));
}

void Mamba::Describe(ModelInfo* info) const {
  info->d_inner = shape_.d_inner;
  info->d_state = shape_.d_state;
  info->d_conv = shape_.d_conv;
  info->dt_rank = shape_.dt_rank;
}

std::string Mamba::Identity() const {
  return shape_.dt_b_c_epsilon ? absl::StrCat("falcon_mamba, mixer_rms_eps ", *shape_.dt_b_c_epsilon)
                               : "mamba";
}

absl::Status Mamba::Bind(WeightLoader& loader) {
  round_input_to_bf16_ = loader.precision() == kernels::WeightPrecision::kBf16;
  const int64_t d = shape_.d_inner;
  MAMBAD_ASSIGN_OR_RETURN(in_proj_, loader.Matrix("in_proj.weight", shape_.use_bias ? "in_proj.bias" : ""));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<float> conv, loader.Floats("conv1d.weight"));
  std::vector<float> taps(conv.size());  // (D, K) -> (K, D)
  for (int64_t k = 0; k < shape_.d_conv; ++k) {
    for (int64_t i = 0; i < d; ++i) taps[k * d + i] = conv[i * shape_.d_conv + k];
  }
  MAMBAD_ASSIGN_OR_RETURN(conv_weight_, loader.Upload(taps));
  if (shape_.use_conv_bias) {
    MAMBAD_ASSIGN_OR_RETURN(conv_bias_, loader.Vector("conv1d.bias"));
  }
  MAMBAD_ASSIGN_OR_RETURN(x_proj_, loader.Matrix("x_proj.weight"));
  MAMBAD_ASSIGN_OR_RETURN(dt_proj_, loader.Matrix("dt_proj.weight"));
  MAMBAD_ASSIGN_OR_RETURN(dt_bias_, loader.Vector("dt_proj.bias"));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<float> a_log, loader.Floats("A_log"));
  std::vector<float> decay(a_log.size());
  kernels::PackDecay(a_log.data(), d, shape_.d_state, decay.data());
  MAMBAD_ASSIGN_OR_RETURN(decay_log2_, loader.Upload(decay));
  MAMBAD_ASSIGN_OR_RETURN(skip_, loader.Vector("D"));
  MAMBAD_ASSIGN_OR_RETURN(out_proj_,
                          loader.Matrix("out_proj.weight", shape_.use_bias ? "out_proj.bias" : ""));
  why_not_fused_ = in_proj_.layout() == kernels::PanelLayout::kGpuCores
                       ? kernels::WhyNotFused(loader.device(), LayerShape())
                       : "the fused kernels are for bf16 on a GPU";
  return absl::OkStatus();
}

Mamba::Scratch Mamba::Split(const MixerCall& call) const {
  Scratch scratch;
  scratch.xz = call.workspace;
  scratch.dt_bc = scratch.xz + AlignedFloats(call.rows * xz_width());
  scratch.delta = scratch.dt_bc + AlignedFloats(call.rows * dt_bc_width());
  return scratch;
}

absl::Status Mamba::BeforeConv(const MixerCall& call, const Scratch& scratch) const {
  return kernels::Linear(
      *call.stream, in_proj_,
      {.x = call.u, .ldx = shape_.d_model, .y = scratch.xz, .ldy = xz_width(), .rows = call.rows});
}

absl::Status Mamba::BetweenConvAndScan(const MixerCall& call, const Scratch& scratch) const {
  const int64_t width = dt_bc_width();
  MAMBAD_RETURN_IF_ERROR(kernels::Linear(
      *call.stream, x_proj_,
      {.x = scratch.xz, .ldx = xz_width(), .y = scratch.dt_bc, .ldy = width, .rows = call.rows}));
  if (shape_.dt_b_c_epsilon) {
    float* const part[] = {scratch.dt_bc, scratch.dt_bc + shape_.dt_rank,
                           scratch.dt_bc + shape_.dt_rank + shape_.d_state};
    const int64_t part_width[] = {shape_.dt_rank, shape_.d_state, shape_.d_state};
    for (int i = 0; i < 3; ++i) {
      MAMBAD_RETURN_IF_ERROR(kernels::RmsNorm(*call.stream, {.x = part[i],
                                                             .x_stride = width,
                                                             .y = part[i],
                                                             .y_stride = width,
                                                             .rows = call.rows,
                                                             .width = part_width[i],
                                                             .eps = *shape_.dt_b_c_epsilon}));
    }
  }
  return kernels::Linear(
      *call.stream, dt_proj_,
      {.x = scratch.dt_bc, .ldx = width, .y = scratch.delta, .ldy = shape_.d_inner, .rows = call.rows});
}

absl::Status Mamba::AfterScan(const MixerCall& call, const Scratch& scratch) const {
  return kernels::Linear(*call.stream, out_proj_,
                         {.x = scratch.delta,
                          .ldx = shape_.d_inner,
                          .y = call.residual,
                          .ldy = shape_.d_model,
                          .rows = call.rows,
                          .accumulate = true});
}

kernels::CausalConv1dFilter Mamba::Filter() const {
  return {.weight = conv_weight_.as<float>(),
          .bias = conv_bias_.as<float>(),
          .channels = shape_.d_inner,
          .width = static_cast<int32_t>(shape_.d_conv),
          .round_input_to_bf16 = round_input_to_bf16_};
}

kernels::SelectiveScanParams Mamba::ScanParams() const {
  return {.decay_log2 = decay_log2_.as<float>(),
          .delta_bias = dt_bias_.as<float>(),
          .skip = skip_.as<float>(),
          .channels = shape_.d_inner,
          .state_size = shape_.d_state};
}

kernels::SelectiveScanInputs Mamba::ScanInputs(const Scratch& scratch) const {
  const float* b = scratch.dt_bc + shape_.dt_rank;
  return {.x = scratch.xz,
          .x_stride = xz_width(),
          .delta_raw = scratch.delta,
          .delta_stride = shape_.d_inner,
          .z = scratch.xz + shape_.d_inner,
          .z_stride = xz_width(),
          .b = b,
          .c = b + shape_.d_state,
          .bc_stride = dt_bc_width()};
}

absl::Status Mamba::Step(const MixerCall& call, const int32_t* slot_index) {
  const Scratch scratch = Split(call);
  MAMBAD_RETURN_IF_ERROR(BeforeConv(call, scratch));
  MAMBAD_RETURN_IF_ERROR(kernels::CausalConv1dStep(*call.stream, {.filter = Filter(),
                                                                  .x = scratch.xz,
                                                                  .x_stride = xz_width(),
                                                                  .y = scratch.xz,
                                                                  .y_stride = xz_width(),
                                                                  .rows = call.rows,
                                                                  .slot_index = slot_index,
                                                                  .window = call.state[0]}));
  MAMBAD_RETURN_IF_ERROR(BetweenConvAndScan(call, scratch));
  MAMBAD_RETURN_IF_ERROR(kernels::SelectiveScanStep(*call.stream, {.params = ScanParams(),
                                                                   .in = ScanInputs(scratch),
                                                                   .y = scratch.delta,
                                                                   .y_stride = shape_.d_inner,
                                                                   .rows = call.rows,
                                                                   .slot_index = slot_index,
                                                                   .state = call.state[1]}));
  return AfterScan(call, scratch);
}

absl::Status Mamba::Prefill(const MixerCall& call, const MixerChunks& chunks) {
  const Scratch scratch = Split(call);
  MAMBAD_RETURN_IF_ERROR(BeforeConv(call, scratch));
  MAMBAD_RETURN_IF_ERROR(kernels::CausalConv1dPrefill(*call.stream, {.filter = Filter(),
                                                                     .x = scratch.xz,
                                                                     .x_stride = xz_width(),
                                                                     .y = scratch.xz,
                                                                     .y_stride = xz_width(),
                                                                     .chunks = chunks.chunks,
                                                                     .offsets = chunks.offsets,
                                                                     .slot_index = chunks.slot_index,
                                                                     .window = call.state[0]}));
  MAMBAD_RETURN_IF_ERROR(BetweenConvAndScan(call, scratch));
  MAMBAD_RETURN_IF_ERROR(kernels::SelectiveScanPrefill(*call.stream, {.params = ScanParams(),
                                                                      .in = ScanInputs(scratch),
                                                                      .y = scratch.delta,
                                                                      .y_stride = shape_.d_inner,
                                                                      .chunks = chunks.chunks,
                                                                      .offsets = chunks.offsets,
                                                                      .slot_index = StateIndex(chunks),
                                                                      .state = call.state[1]}));
  return AfterScan(call, scratch);
}

kernels::MambaLayerShape Mamba::LayerShape() const {
  return {.d_model = static_cast<int32_t>(shape_.d_model),
          .d_inner = static_cast<int32_t>(shape_.d_inner),
          .d_state = static_cast<int32_t>(shape_.d_state),
          .d_conv = static_cast<int32_t>(shape_.d_conv),
          .dt_rank = static_cast<int32_t>(shape_.dt_rank),
          .dt_bc_eps = shape_.dt_b_c_epsilon.value_or(-1.0f)};
}

kernels::MambaLayerWeights Mamba::LayerWeights() const {
  return {.in_proj = kernels::AsPackedWeight(in_proj_),
          .x_proj = kernels::AsPackedWeight(x_proj_),
          .dt_proj = kernels::AsPackedWeight(dt_proj_),
          .out_proj = kernels::AsPackedWeight(out_proj_),
          .in_bias = in_proj_.bias(),
          .conv_weight = conv_weight_.as<float>(),
          .conv_bias = conv_bias_.as<float>(),
          .dt_bias = dt_bias_.as<float>(),
          .decay_log2 = decay_log2_.as<float>(),
          .skip = skip_.as<float>(),
          .out_bias = out_proj_.bias()};
}

// The convolution's inputs are rounded to bf16.
std::vector<StateSpec> Mamba::FusedState() const {
  std::vector<StateSpec> state = State();
  state.front().dtype = kernels::DType::kBf16;
  state.front().exact = true;
  return state;
}

kernels::StepWidths Mamba::FusedWidths() const {
  return {.d_model = static_cast<int32_t>(shape_.d_model),
          .d_inner = static_cast<int32_t>(shape_.d_inner),
          .dt_bc = static_cast<int32_t>(dt_bc_width())};
}

absl::Status Mamba::FusedStep(kernels::Stream& stream, std::span<const FusedBlockStep> blocks) {
  std::vector<kernels::MambaLayerStepArgs> layers;
  for (const FusedBlockStep& block : blocks) {
    const auto& mixer = static_cast<const Mamba&>(*block.mixer);
    layers.push_back({.shape = mixer.LayerShape(),
                      .weights = mixer.LayerWeights(),
                      .buffers = block.buffers,
                      .rows = block.rows,
                      .slot_index = block.slot_index,
                      .window = block.state[0],
                      .state = block.state[1],
                      .norm_eps = block.norm_epsilon,
                      .next_norm_weight = block.next_norm_weight,
                      .last_hidden = block.last_hidden});
  }
  return kernels::MambaStackStep(stream, layers);
}

size_t Mamba::FusedPromptBytes(int64_t tokens, int64_t chunks) const {
  return kernels::MambaLayerPromptBytes(LayerShape(), tokens, chunks);
}

absl::Status Mamba::FusedPrompt(const FusedPromptCall& call) {
  const kernels::PromptChunks prompt = {.tokens = call.tokens,
                                        .chunks = call.chunks.chunks,
                                        .offsets = call.chunks.offsets,
                                        .slot_index = call.chunks.slot_index};
  if (call.first) MAMBAD_RETURN_IF_ERROR(kernels::PlacePromptTokens(*call.stream, prompt, call.workspace));
  return kernels::MambaLayerPrompt(*call.stream, {.shape = LayerShape(),
                                                  .weights = LayerWeights(),
                                                  .norm_weight = call.norm_weight,
                                                  .norm_eps = call.norm_epsilon,
                                                  .next_norm_weight = call.next_norm_weight,
                                                  .prepared = !call.first,
                                                  .prompt = prompt,
                                                  .residual = call.residual,
                                                  .window = call.state[0],
                                                  .state = call.state[1],
                                                  .state_index = StateIndex(call.chunks),
                                                  .workspace = call.workspace});
}

absl::Status ReadRank(const ConfigFields& fields, MambaShape* shape) {
  const nlohmann::json* rank = fields.Find("time_step_rank");
  if (rank == nullptr || (rank->is_string() && rank->get_ref<const std::string&>() == "auto")) {
    shape->dt_rank = (shape->d_model + 15) / 16;
    return absl::OkStatus();
  }
  if (rank->is_string()) return fields.Error("time_step_rank", "must be \"auto\" or an integer");
  MAMBAD_ASSIGN_OR_RETURN(shape->dt_rank, fields.Integer("time_step_rank", 1, kMaxWidth));
  return absl::OkStatus();
}

// d_inner: stated, or `expand` times d_model. The statement wins, as it does in Hugging Face's classes
// (falcon-mamba-7b says expand 16 and intermediate_size 8192).
absl::Status ReadInnerWidth(const ConfigFields& fields, MambaShape* shape) {
  MAMBAD_ASSIGN_OR_RETURN(const double expand, fields.Real("expand", 0, kMaxWidth, 2));
  if (fields.Find("intermediate_size") != nullptr) {
    MAMBAD_ASSIGN_OR_RETURN(shape->d_inner, fields.Integer("intermediate_size", 1, kMaxWidth));
    return absl::OkStatus();
  }
  const double width = std::floor(expand * static_cast<double>(shape->d_model));
  if (width < 1 || width > kMaxWidth)
    return fields.Error("expand", absl::StrCat("gives an inner width outside [1, ", kMaxWidth, "]"));
  shape->d_inner = static_cast<int64_t>(width);
  return absl::OkStatus();
}

absl::StatusOr<MambaShape> ReadShape(const ModelConfig& config, kernels::DType state_dtype) {
  const ConfigFields& fields = *config.fields;
  MambaShape shape;
  shape.state_dtype = state_dtype;
  shape.d_model = config.d_model;
  MAMBAD_RETURN_IF_ERROR(ReadInnerWidth(fields, &shape));
  MAMBAD_ASSIGN_OR_RETURN(shape.d_state, fields.Integer("state_size", 1, kernels::kMaxStateSize, 16));
  MAMBAD_ASSIGN_OR_RETURN(shape.d_conv, fields.Integer("conv_kernel", 1, kernels::kMaxConvWidth, 4));
  MAMBAD_RETURN_IF_ERROR(ReadRank(fields, &shape));
  MAMBAD_ASSIGN_OR_RETURN(shape.use_bias, fields.Boolean("use_bias", false));
  MAMBAD_ASSIGN_OR_RETURN(shape.use_conv_bias, fields.Boolean("use_conv_bias", true));
  MAMBAD_ASSIGN_OR_RETURN(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu") return fields.Error("hidden_act", "must be \"silu\"");
  return shape;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Mixer>> CreateMamba(const ModelConfig& config, kernels::DType state_dtype) {
  MAMBAD_ASSIGN_OR_RETURN(const MambaShape shape, ReadShape(config, state_dtype));
  return std::make_unique<Mamba>(shape);
}

absl::StatusOr<std::unique_ptr<Mixer>> CreateFalconMamba(const ModelConfig& config,
                                                         kernels::DType state_dtype) {
  MAMBAD_ASSIGN_OR_RETURN(MambaShape shape, ReadShape(config, state_dtype));
  MAMBAD_ASSIGN_OR_RETURN(const double epsilon, config.fields->Real("mixer_rms_eps", 0, 1, 1e-6));
  shape.dt_b_c_epsilon = static_cast<float>(epsilon);
  return std::make_unique<Mamba>(shape);
}

}  // namespace mambad

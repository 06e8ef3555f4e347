#include "engine/model/block.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mambad {

std::string Block::Prefix() const { return absl::StrCat("backbone.layers.", layer_, "."); }

std::vector<TensorSpec> Block::Tensors() const {
  std::vector<TensorSpec> tensors = {{Prefix() + "norm.weight", {d_model_}, TensorInit::kOnes}};
  for (TensorSpec& spec : mixer_->Tensors()) {
    spec.name = Prefix() + "mixer." + spec.name;
    tensors.push_back(std::move(spec));
  }
  return tensors;
}

absl::Status Block::Bind(WeightLoader& loader) {
  const TensorSpec norm[] = {{"norm.weight", {d_model_}, TensorInit::kOnes}};
  loader.Select(norm, Prefix());
  MAMBAD_ASSIGN_OR_RETURN(norm_weight_, loader.Vector("norm.weight"));
  const std::vector<TensorSpec> specs = mixer_->Tensors();
  loader.Select(specs, Prefix() + "mixer.");
  return mixer_->Bind(loader);
}

void Block::PlaceState(const StateLayout& layout) {
  step_views_.clear();
  for (const StateTensor& tensor : layout.tensors) {
    step_views_.push_back(
        {.layer_offset_bytes = static_cast<int64_t>(tensor.offset + layer_ * tensor.layer_stride),
         .layer = static_cast<uint16_t>(layer_),
         .dtype = tensor.spec.dtype});
  }
  prefill_views_ = step_views_;
  for (size_t i = 0; i < prefill_views_.size(); ++i) {
    const StateTensor& tensor = layout.tensors[i];
    if (!tensor.narrow()) continue;
    prefill_views_[i].layer_offset_bytes = static_cast<int64_t>(layer_ * tensor.wide_layer_stride);
    prefill_views_[i].dtype = kernels::DType::kF32;
  }
}

std::span<const kernels::SlotView> Block::StepViews(const StateView& state) {
  for (kernels::SlotView& view : step_views_) {
    view.base = state.base;
    view.slot_stride_bytes = static_cast<int64_t>(state.stride);
    view.slots = state.slots;
  }
  return step_views_;
}

std::span<const kernels::SlotView> Block::PrefillViews(const StateView& state) {
  for (size_t i = 0; i < prefill_views_.size(); ++i) {
    kernels::SlotView& view = prefill_views_[i];
    const bool wide = view.dtype != step_views_[i].dtype;  // only a narrow tensor's differ
    view.base = wide ? state.wide_base : state.base;
    view.slot_stride_bytes = static_cast<int64_t>(wide ? state.wide_stride : state.stride);
    view.slots = wide ? state.wide_slots : state.slots;
  }
  return prefill_views_;
}

FusedBlockStep Block::FusedStep(FusedBlockStep step, const StateView& state) {
  step.mixer = mixer_->fused();
  step.norm_epsilon = norm_epsilon_;
  step.state = StepViews(state);
  return step;
}

absl::Status Block::FusedPrompt(FusedPromptCall call, const StateView& state) {
  call.norm_weight = norm_weight();
  call.norm_epsilon = norm_epsilon_;
  call.state = PrefillViews(state);
  return mixer_->fused()->FusedPrompt(call);
}

MixerCall Block::CallOf(const BlockCall& call, std::span<const kernels::SlotView> state) const {
  return {call.stream, call.normed, call.residual, call.rows, call.workspace, state};
}

absl::Status Block::Norm(const BlockCall& call) {
  return kernels::RmsNorm(*call.stream, {.x = call.residual,
                                         .x_stride = d_model_,
                                         .weight = norm_weight_.as<float>(),
                                         .y = call.normed,
                                         .y_stride = d_model_,
                                         .rows = call.rows,
                                         .width = d_model_,
                                         .eps = norm_epsilon_});
}

absl::Status Block::Step(const BlockCall& call, const int32_t* slot_index) {
  MAMBAD_RETURN_IF_ERROR(Norm(call));
  return mixer_->Step(CallOf(call, StepViews(call.state)), slot_index);
}

absl::Status Block::Prefill(const BlockCall& call, const MixerChunks& chunks) {
  MAMBAD_RETURN_IF_ERROR(Norm(call));
  return mixer_->Prefill(CallOf(call, PrefillViews(call.state)), chunks);
}

}  // namespace mambad

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
  state_offsets_.clear();
  for (const StateTensor& tensor : layout.tensors)
    state_offsets_.push_back(static_cast<int64_t>(tensor.offset + layer_ * tensor.layer_stride));
  state_views_.resize(state_offsets_.size());
}

std::span<const kernels::SlotView> Block::StateViews(const StateView& state) {
  for (size_t i = 0; i < state_views_.size(); ++i)
    state_views_[i] = {state.base, static_cast<int64_t>(state.stride), state_offsets_[i], state.slots};
  return state_views_;
}

absl::Status Block::FusedStep(FusedStepCall call, const StateView& state) {
  call.norm_epsilon = norm_epsilon_;
  call.state = StateViews(state);
  return mixer_->fused()->FusedStep(call);
}

absl::Status Block::FusedPrompt(FusedPromptCall call, const StateView& state) {
  call.norm_weight = norm_weight();
  call.norm_epsilon = norm_epsilon_;
  call.state = StateViews(state);
  return mixer_->fused()->FusedPrompt(call);
}

absl::Status Block::Norm(const BlockCall& call, MixerCall* mixer_call) {
  *mixer_call = {call.stream, call.normed, call.residual, call.rows, call.workspace, StateViews(call.state)};
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
  MixerCall mixer_call;
  MAMBAD_RETURN_IF_ERROR(Norm(call, &mixer_call));
  return mixer_->Step(mixer_call, slot_index);
}

absl::Status Block::Prefill(const BlockCall& call, const MixerChunks& chunks) {
  MixerCall mixer_call;
  MAMBAD_RETURN_IF_ERROR(Norm(call, &mixer_call));
  return mixer_->Prefill(mixer_call, chunks);
}

}  // namespace mambad

#include "kernels/mamba_layer/launch.cuh"
#include "kernels/mamba_layer/mamba_layer_step.h"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/state_row.cuh"
#include "kernels/mamba_layer/state_step.cuh"
#include "kernels/mamba_layer/x_proj_fold.cuh"

namespace mambad::kernels {
namespace {

bool IsBf16(const SlotView& slots) { return slots.dtype == DType::kBf16; }

// bf16 states have no kernel that adds the folded sums.
bool Folds(const MambaLayerStepArgs& args) {
  return !IsBf16(args.state) && FoldsXProj(args.weights.in_proj, args.weights.x_proj);
}

FoldedSums SumsToFold(const MambaLayerStepArgs& args) {
  return {.data = args.buffers.folded,
          .segments = args.shape.d_inner / kFoldChannels,
          .width = args.shape.dt_bc_width()};
}

template <bool kFolds>
ConvAndGate<kFolds> InProjOutput(const MambaLayerStepArgs& args) {
  const MambaLayerShape& shape = args.shape;
  const MambaLayerWeights& weights = args.weights;
  return {
      .norm = {.square_sums = args.buffers.square_sums, .width = shape.d_model, .eps = args.norm_eps},
      .bias = weights.in_bias,
      .conv_weight = weights.conv_weight,
      .conv_bias = weights.conv_bias,
      .window = args.window,
      .slot_index = args.slot_index,
      .x = args.buffers.x,
      .gate = args.buffers.gate,
      .channels = shape.d_inner,
      .conv_width = shape.d_conv,
      .layout = StepLayout::Of(args.rows),
      .folded = {.weights = weights.x_proj.data, .k_pad = weights.x_proj.k_pad(), .sums = SumsToFold(args)}};
}

const char* InProj(void* stream, const MambaLayerStepArgs& args) {
  const PackedWeight& weight = args.weights.in_proj;
  const std::uint16_t* const u = args.buffers.u;
  if (args.rows <= kMaxNarrowRows && Folds(args))
    return LaunchNarrowProduct(stream, weight, u, args.rows, InProjOutput<true>(args));
  return LaunchProduct(stream, weight, u, args.rows, InProjOutput<false>(args));
}

const char* FoldedXProjOfManyRows(void* stream, const MambaLayerStepArgs& args) {
  using Shape = XProjSumsShape;
  const int width = args.shape.dt_bc_width();
  return Launch(stream, XProjSums,
                {.grid = dim3((width + 15) / 16, (args.rows + Shape::kRows - 1) / Shape::kRows),
                 .threads = Shape::kThreads},
                XProjSumsArgs{.weights = args.weights.x_proj.data,
                              .x = args.buffers.x,
                              .dt_bc = args.buffers.dt_bc,
                              .rows = args.rows,
                              .channels = args.shape.d_inner,
                              .width = width});
}

const char* XProj(void* stream, const MambaLayerStepArgs& args) {
  if (Folds(args)) {
    if (args.rows <= kMaxNarrowRows) return nullptr;  // InProj did it
    return FoldedXProjOfManyRows(stream, args);
  }
  const int width = args.shape.dt_bc_width();
  const PlainRows<false> output = {.norm = {}, .y = args.buffers.dt_bc, .stride = width, .width = width};
  return LaunchProduct(stream, args.weights.x_proj, args.buffers.x, args.rows, output);
}

const char* OutProj(void* stream, const MambaLayerStepArgs& args) {
  const StepBuffers& buffers = args.buffers;
  const AddToResidual output = {.norm = {},
                                .bias = args.weights.out_bias,
                                .slot_index = args.slot_index,
                                .residual = buffers.residual,
                                .next = {.weight = args.next_norm_weight,
                                         .u = buffers.u,
                                         .square_sums = buffers.square_sums,
                                         .width = args.shape.d_model,
                                         .layout = StepLayout::Of(args.rows)},
                                .kept = args.last_hidden};
  return LaunchProduct(stream, args.weights.out_proj, buffers.y, args.rows, output);
}

// How far ahead of its own states a block brings others to the L2. In many rounds of the blocks that run at
// once, two a multiprocessor, half a round: one ends when the states of the next are there. In few rounds,
// the second while the first waits for x_proj.
int StatesAhead(int blocks) {
  constexpr int kManyRounds = 3;
  const int multiprocessors = DeviceAttribute(cudaDevAttrMultiProcessorCount);
  return blocks > 2 * kManyRounds * multiprocessors ? multiprocessors : 2 * multiprocessors;
}

template <int kN, int kRows, int kWarps, int kLanes>
const char* LaunchStates(void* stream, StateStepArgs args) {
  using Shape = StateStepShape<kN, kRows, kWarps, kLanes>;
  const dim3 grid((args.channels + Shape::kChannels - 1) / Shape::kChannels, (args.rows + kRows - 1) / kRows);
  args.ahead = StatesAhead(static_cast<int>(grid.x * grid.y));
  return Launch(stream,
                IsBf16(args.state) ? StepStates<kN, kRows, kWarps, kLanes, true>
                                   : StepStates<kN, kRows, kWarps, kLanes, false>,
                {.grid = grid,
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::SharedBytes(args.rank, args.rank_pad)},
                args);
}

template <int kN, int kWarps, bool kFolded>
const char* LaunchStateRows(void* stream, const StateStepArgs& args, const FoldedSums& folded) {
  using Shape = StateRowShape<kWarps>;
  return Launch(stream, StepRow<kN, kWarps, kFolded>,
                {.grid = dim3((args.channels + Shape::kChannels - 1) / Shape::kChannels, args.rows),
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::SharedBytes(args.rank_pad)},
                args, folded);
}

template <int kN>
const char* StatesOfSize(void* stream, const StateStepArgs& args, const FoldedSums& folded) {
  if (args.dt_bc == nullptr) return LaunchStateRows<kN, kMostFoldGroups, true>(stream, args, folded);
  // A block for each of so many rows: one for all of them takes as long as all, one for each of eight reads
  // dt_proj too often.
  constexpr int kMostApart = 4;
  if (args.rows <= kMostApart && !IsBf16(args.state)) {
    return args.rows == 2 ? LaunchStateRows<kN, 8, false>(stream, args, folded)
                          : LaunchStateRows<kN, 4, false>(stream, args, folded);
  }
  if (args.rows == 1) return LaunchStates<kN, 1, 2, 4>(stream, args);
  if (args.rows == 2) return LaunchStates<kN, 2, 2, 4>(stream, args);
  if (args.rows == 4) return LaunchStates<kN, 4, 2, 4>(stream, args);
  if (args.rows <= 16) return LaunchStates<kN, 8, 2, 4>(stream, args);
  if constexpr (kN <= 16) {
    return LaunchStates<kN, 8, 8, 1>(stream, args);
  } else {
    return LaunchStates<kN, 8, 4, 4>(stream, args);
  }
}

const char* States(void* stream, const MambaLayerStepArgs& args) {
  const MambaLayerWeights& weights = args.weights;
  const bool folded = args.rows <= kMaxNarrowRows && Folds(args);
  const StateStepArgs states = {.dt_proj = weights.dt_proj.data,
                                .dt_bias = weights.dt_bias,
                                .decay_log2 = weights.decay_log2,
                                .skip = weights.skip,
                                .dt_bc = folded ? nullptr : args.buffers.dt_bc,
                                .x = args.buffers.x,
                                .gate = args.buffers.gate,
                                .y = args.buffers.y,
                                .layout = StepLayout::Of(args.rows),
                                .state = args.state,
                                .slot_index = args.slot_index,
                                .rows = args.rows,
                                .channels = args.shape.d_inner,
                                .rank = args.shape.dt_rank,
                                .rank_pad = weights.dt_proj.k_pad(),
                                .norm_eps = args.shape.dt_bc_eps};
  const FoldedSums sums = SumsToFold(args);
  if (args.shape.d_state == 8) return StatesOfSize<8>(stream, states, sums);
  if (args.shape.d_state == 16) return StatesOfSize<16>(stream, states, sums);
  return StatesOfSize<32>(stream, states, sums);
}

bool Aligned(const SlotView& view) {
  return reinterpret_cast<std::uintptr_t>(view.base) % kStepSlotAlignment == 0 &&
         view.slot_stride_bytes % kStepSlotAlignment == 0 &&
         view.layer_offset_bytes % kStepSlotAlignment == 0;
}

}  // namespace

const char* WhyNotMambaLayerStep(const MambaLayerShape& shape) {
  if (DeviceAttribute(cudaDevAttrComputeCapabilityMajor) != 9) return "the device is no Hopper GPU";
  if (shape.d_model <= 0 || shape.d_model % kChunkK != 0) return "d_model is not a multiple of 64";
  if (shape.d_inner <= 0 || shape.d_inner % kChunkK != 0) return "d_inner is not a multiple of 64";
  if (shape.d_state != 8 && shape.d_state != 16 && shape.d_state != 32) return "d_state is not 8, 16 or 32";
  if (shape.d_conv < 1 || shape.d_conv > kMaxStepConvWidth) return "d_conv is not 1 to 4";
  if (shape.dt_rank < 1 || shape.dt_rank > 512) return "dt_rank is not 1 to 512";
  const PackedWeight in_proj = {.rows = 2 * shape.d_inner, .cols = shape.d_model};
  const PackedWeight x_proj = {.rows = shape.dt_bc_width(), .cols = shape.d_inner};
  const PackedWeight out_proj = {.rows = shape.d_model, .cols = shape.d_inner};
  const bool fits = FoldsXProj(in_proj, x_proj) ? FitsNarrow(in_proj, kFoldTiles)
                                                : FitsNarrow(in_proj) && FitsNarrow(x_proj);
  if (!fits || !FitsNarrow(out_proj)) return "d_model or d_inner is too large for shared memory";
  return nullptr;
}

const char* WhyNotMambaLayerStep(const MambaLayerStepArgs& args) {
  if (const char* why_not = WhyNotMambaLayerStep(args.shape)) return why_not;
  if (!IsStepBucket(args.rows)) return "rows is not a bucket";
  if (!Aligned(args.window) || !Aligned(args.state) || !Aligned(args.last_hidden))
    return "slots are not 16-byte aligned";
  if (!IsBf16(args.window)) return "the window is not bf16";
  return nullptr;
}

const char* MambaLayerStep(void* stream, const MambaLayerStepArgs& args) {
  if (const char* why_not = WhyNotMambaLayerStep(args)) return why_not;
  for (const auto phase : {InProj, XProj, States, OutProj}) {
    if (const char* error = phase(stream, args)) return error;
  }
  return nullptr;
}

}  // namespace mambad::kernels

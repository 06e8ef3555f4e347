#include <algorithm>

#include "kernels/mamba_layer/launch.cuh"
#include "kernels/mamba_layer/mamba_stack_step.h"
#include "kernels/mamba_layer/row_stack.cuh"
#include "kernels/mamba_layer/stack_plan.h"
#include "kernels/mamba_layer/stack_step.cuh"
#include "kernels/mamba_layer/x_proj_fold.h"

namespace mambad::kernels {
namespace {

constexpr int kStackStages[] = {12, 11};  // of the rings; with 8, layer by layer is as fast

StackLayer LayerOf(const MambaLayerStepArgs& args) {
  const MambaLayerWeights& weights = args.weights;
  return {
      .products = {weights.in_proj.data, weights.x_proj.data, weights.dt_proj.data, weights.out_proj.data},
      .in_bias = weights.in_bias,
      .conv_weight = weights.conv_weight,
      .conv_bias = weights.conv_bias,
      .dt_bias = weights.dt_bias,
      .decay_log2 = weights.decay_log2,
      .skip = weights.skip,
      .out_bias = weights.out_bias,
      .next_norm_weight = args.next_norm_weight,
      .window_offset_bytes = args.window.layer_offset_bytes,
      .state_offset_bytes = args.state.layer_offset_bytes};
}

StackArgs ArgsOf(std::span<const MambaLayerStepArgs> layers, int blocks) {
  const MambaLayerStepArgs& first = layers.front();
  const MambaLayerShape& shape = first.shape;
  const MambaLayerWeights& weights = first.weights;
  const StepBuffers& buffers = first.buffers;
  const HandedBuffers& handed = buffers.handed;
  constexpr int kRows = kMostStackRows;
  StackArgs args = {.plans = PlanStack(weights, blocks),
                    .layers = static_cast<int>(layers.size()),
                    .rows = first.rows,
                    .d_model = shape.d_model,
                    .channels = shape.d_inner,
                    .rank = shape.dt_rank,
                    .conv_width = shape.d_conv,
                    .norm_eps = first.norm_eps,
                    .dt_bc_eps = shape.dt_bc_eps,
                    .slot_index = first.slot_index,
                    .window = first.window,
                    .state = first.state,
                    .last_hidden = layers.back().last_hidden,
                    .residual = buffers.residual,
                    .u = buffers.u,
                    .square_sums = buffers.square_sums,
                    .handed_u = {handed.u, kRows * shape.d_model},
                    .handed_square_sums = {handed.square_sums, kRows * shape.d_model / kSquareSumWidth},
                    .x = {handed.x, kRows * shape.d_inner},
                    .gate = {handed.gate, kRows * shape.d_inner},
                    .y = {handed.y, kRows * shape.d_inner},
                    .dt_bc = {handed.dt_bc, kRows * shape.dt_bc_width()},
                    .folded = {handed.folded, static_cast<int>(FoldFloats(shape.d_inner))}};
  for (const StackProduct product : {kInProj, kXProj, kOutProj})
    args.x_bytes = std::max(args.x_bytes, args.plans.of[product].segment_chunks * kChunkK * first.rows * 2);
  for (std::size_t i = 0; i < layers.size(); ++i) args.layer[i] = LayerOf(layers[i]);
  return args;
}

// Whether the layers agree in what the kernel is given but once.
bool Alike(const MambaLayerStepArgs& a, const MambaLayerStepArgs& b) {
  const auto alike = [](const SlotView& one, const SlotView& other) {
    return one.base == other.base && one.slot_stride_bytes == other.slot_stride_bytes &&
           one.dtype == other.dtype;
  };
  return a.shape == b.shape && a.rows == b.rows && a.slot_index == b.slot_index && a.norm_eps == b.norm_eps &&
         a.buffers.residual == b.buffers.residual && alike(a.window, b.window) && alike(a.state, b.state);
}

// What neither kernel can do.
const char* WhyNotEither(std::span<const MambaLayerStepArgs> layers) {
  // The last layer's place is cleared in the first, which must lie two before.
  if (layers.size() < 3 || layers.size() > kMostStackLayers) return "not 3 to 64 layers";
  const MambaLayerStepArgs& first = layers.front();
  if (first.rows > kMostStackRows) return "too many rows";
  if (first.state.dtype != DType::kF32) return "the state is not fp32";
  if (first.shape.d_state != kStackStateSize) return "d_state is not 16";
  for (const MambaLayerStepArgs& layer : layers) {
    if (!Alike(layer, first)) return "the layers differ";
  }
  return nullptr;
}

// What StepStack cannot do, whatever its shared memory; or does slower.
const char* WhyNotStack(std::span<const MambaLayerStepArgs> layers, int blocks) {
  if (const char* why_not = WhyNotEither(layers)) return why_not;
  const MambaLayerStepArgs& first = layers.front();
  const MambaLayerWeights& weights = first.weights;
  if (first.shape.dt_bc_width() > kMostDtBcWidth) return "dt, B and C are too wide";
  // Their order of sums is another.
  if (FoldsXProj(weights.in_proj, weights.x_proj)) return "x_proj is folded into in_proj";
  if (first.rows == 2 && PlanStack(weights, blocks).of[kInProj].units < blocks)
    return "layers of two rows are faster";
  return nullptr;
}

template <int kHeight, int kStages>
bool RunsAtOnce(int bytes) {
  using Block = StackBlock<kHeight, WeightRings<kStages>>;
  if (bytes + static_cast<int>(sizeof(typename Block::Static)) >
      DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))
    return false;
  int blocks = 0;
  return cudaFuncSetAttribute(StepStack<kHeight, kStages>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              bytes) == cudaSuccess &&
         cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, StepStack<kHeight, kStages>,
                                                       StackShape<kHeight>::kThreads, bytes) == cudaSuccess &&
         blocks > 0;
}

// use.operator()<kHeight, kStages>(shared bytes) for the deepest rings that find room; false: none does.
template <int kHeight, class Use>
bool WithStages(const StackArgs& args, const Use& use) {
  for (const int stages : kStackStages) {
    const bool used = WithListed<kStackStages>(stages, [&]<int kStages>() {
      const int bytes = StackShape<kHeight>::SharedBytes(args.layers, args.x_bytes, kStages);
      if (!RunsAtOnce<kHeight, kStages>(bytes)) return false;
      use.template operator()<kHeight, kStages>(bytes);
      return true;
    });
    if (used) return true;
  }
  return false;
}
template <class Use>
bool WithKernel(const StackArgs& args, const Use& use) {
  return args.rows == 1 ? WithStages<1>(args, use) : WithStages<2>(args, use);
}

int RowStackBlocks(const MambaLayerShape& shape) {
  using Shape = RowStackShape;
  return Shape::InBlocks(shape.d_inner) + Shape::StateBlocks(shape.d_inner) + Shape::OutBlocks(shape.d_model);
}

// What StepRowStack cannot do.
const char* WhyNotRowStack(std::span<const MambaLayerStepArgs> layers, int blocks) {
  using Shape = RowStackShape;
  if (const char* why_not = WhyNotEither(layers)) return why_not;
  const MambaLayerStepArgs& first = layers.front();
  const MambaLayerShape& shape = first.shape;
  const PackedWeight& in_proj = first.weights.in_proj;
  const PackedWeight& out_proj = first.weights.out_proj;
  if (first.rows != 1) return "more than a row";
  if (shape.dt_bc_eps >= 0.0f) return "dt, B and C are normed";
  if (!FoldsXProj(in_proj, first.weights.x_proj)) return "x_proj is not folded into in_proj";
  if (shape.dt_rank > kChunkK) return "dt_rank is above 64";
  if (std::max(in_proj.segment_chunks(), out_proj.segment_chunks()) > Shape::kHeldChunks)
    return "a segment is too long for registers";
  return RowStackBlocks(shape) > blocks ? "the device has too few multiprocessors" : nullptr;
}

const char* LaunchRowStack(void* stream, std::span<const MambaLayerStepArgs> layers, int blocks) {
  return Launch(stream, StepRowStack,
                {.grid = dim3(RowStackBlocks(layers.front().shape)),
                 .threads = RowStackShape::kThreads,
                 .shared_bytes = RowStackShape::SharedBytes(static_cast<int>(layers.size())),
                 .at_once = true},
                ArgsOf(layers, blocks));
}

constexpr char kNoRoom[] = "too little shared memory";

}  // namespace

const char* WhyNotMambaStack(std::span<const MambaLayerStepArgs> layers) {
  const int blocks = DeviceAttribute(cudaDevAttrMultiProcessorCount);
  if (const char* why_not = WhyNotEither(layers)) return why_not;
  const MambaLayerWeights& weights = layers.front().weights;
  if (FoldsXProj(weights.in_proj, weights.x_proj)) return WhyNotRowStack(layers, blocks);
  if (const char* why_not = WhyNotStack(layers, blocks)) return why_not;
  return WithKernel(ArgsOf(layers, blocks), [&]<int, int>(int) {}) ? nullptr : kNoRoom;
}

const char* MambaStackStep(void* stream, std::span<const MambaLayerStepArgs> layers) {
  for (const MambaLayerStepArgs& layer : layers) {
    if (const char* why_not = WhyNotMambaLayerStep(layer)) return why_not;
  }
  const int blocks = DeviceAttribute(cudaDevAttrMultiProcessorCount);
  if (WhyNotRowStack(layers, blocks) == nullptr) return LaunchRowStack(stream, layers, blocks);
  if (WhyNotStack(layers, blocks) == nullptr) {
    const StackArgs args = ArgsOf(layers, blocks);
    const char* error = nullptr;
    const bool launched = WithKernel(args, [&]<int kHeight, int kStages>(int bytes) {
      error = Launch(stream, StepStack<kHeight, kStages>,
                     {.grid = dim3(blocks),
                      .threads = StackShape<kHeight>::kThreads,
                      .shared_bytes = bytes,
                      .at_once = true},
                     args);
    });
    if (launched) return error;
  }
  for (const MambaLayerStepArgs& layer : layers) {
    if (const char* error = MambaLayerStep(stream, layer)) return error;
  }
  return nullptr;
}

}  // namespace mambad::kernels

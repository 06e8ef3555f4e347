#include "kernels/mamba_layer/launch.cuh"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/step_ends.h"

namespace mambad::kernels {
namespace {

struct EmbedShape {
  static constexpr int kThreads = 256;
};

__global__ void __launch_bounds__(EmbedShape::kThreads)
    EmbedKernel(const std::uint16_t* embedding, int k_pad, const std::int32_t* tokens, float* residual,
                const NormInput next) {
#if __CUDA_ARCH__ >= 900
  hopper::LaunchDependents();
#endif
  const int row = blockIdx.x;
  const int token = tokens[row];
  for (int first = threadIdx.x * kQuad; first - static_cast<int>(threadIdx.x % 32) * kQuad < next.width;
       first += EmbedShape::kThreads * kQuad) {
    const bool inside = first < next.width;
    float4 value = {};
    if (inside) {
      value = WidenBf16(*reinterpret_cast<const uint2*>(embedding + WeightIndex(token, first, k_pad)));
      *reinterpret_cast<float4*>(residual + static_cast<std::int64_t>(row) * next.width + first) = value;
    }
    const float4 weight = inside ? *reinterpret_cast<const float4*>(next.weight + first) : float4{};
    StoreNormInput(next, first, row, value, weight, inside);
  }
}

}  // namespace

const char* EmbedRows(void* stream, const EmbedRowsArgs& args) {
  if (!IsStepBucket(args.rows)) return "rows is not a bucket";
  if (args.embedding.cols % kChunkK != 0) return "d_model is not a multiple of 64";
  const NormInput next = {.weight = args.norm_weight,
                          .u = args.buffers.u,
                          .square_sums = args.buffers.square_sums,
                          .width = args.embedding.cols,
                          .layout = StepLayout::Of(args.rows)};
  return Launch(stream, EmbedKernel,
                {.grid = dim3(args.rows), .threads = EmbedShape::kThreads, .overlaps = false},
                args.embedding.data, args.embedding.k_pad(), args.tokens, args.buffers.residual, next);
}

const char* HeadStep(void* stream, const HeadStepArgs& args) {
  if (!IsStepBucket(args.rows)) return "rows is not a bucket";
  const PlainRows<true> output = {
      .norm = {.square_sums = args.buffers.square_sums, .width = args.head.cols, .eps = args.norm_eps},
      .y = args.logits,
      .stride = args.stride,
      .width = args.head.rows};
  return LaunchProduct(stream, args.head, args.buffers.u, args.rows, output);
}

}  // namespace mambad::kernels

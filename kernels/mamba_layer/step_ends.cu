#include "kernels/mamba_layer/launch.cuh"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/step_ends.h"

namespace mambad::kernels {
namespace {

struct EmbedShape {
  static constexpr int kThreads = 256;
  static constexpr int kValues = kThreads * kQuad;
};

// Where the rows of the residual stream come from: one row of four values at a time.
struct EmbeddingRows {
  const std::uint16_t* embedding;
  int k_pad;
  const std::int32_t* tokens;
  float* residual;
  int width;

  __device__ float4 At(int row, int first) const {
    const float4 value =
        WidenBf16(*reinterpret_cast<const uint2*>(embedding + WeightIndex(tokens[row], first, k_pad)));
    *reinterpret_cast<float4*>(residual + static_cast<std::int64_t>(row) * width + first) = value;
    return value;
  }
};

struct GivenRows {
  const float* hidden;
  int width;

  __device__ float4 At(int row, int first) const {
    return *reinterpret_cast<const float4*>(hidden + static_cast<std::int64_t>(row) * width + first);
  }
};

// Grid (pieces of kValues values, rows).
template <class Rows>
__global__ void __launch_bounds__(EmbedShape::kThreads) EnterKernel(const Rows rows, const NormInput next) {
  AllowNextKernel();
  const int row = blockIdx.y;
  const int first = blockIdx.x * EmbedShape::kValues + threadIdx.x * kQuad;
  const bool inside = first < next.width;
  const float4 weight = inside ? Load4(next.weight + first) : float4{};
  const float4 value = inside ? rows.At(row, first) : float4{};
  StoreNormInput(next, first, row, value, weight, inside);
}

template <class Rows>
const char* LaunchEnter(void* stream, int rows, const Rows& from, const NormInput& next) {
  const int pieces = (next.width + EmbedShape::kValues - 1) / EmbedShape::kValues;
  return Launch(stream, EnterKernel<Rows>,
                {.grid = dim3(pieces, rows), .threads = EmbedShape::kThreads, .overlaps = false}, from, next);
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
  const EmbeddingRows rows = {args.embedding.data, args.embedding.k_pad(), args.tokens, args.buffers.residual,
                              args.embedding.cols};
  return LaunchEnter(stream, args.rows, rows, next);
}

const char* NormRows(void* stream, const NormRowsArgs& args) {
  if (!IsStepBucket(args.bucket) || args.rows > args.bucket) return "rows do not fit the bucket";
  const NormInput next = {.weight = args.norm_weight,
                          .u = args.buffers.u,
                          .square_sums = args.buffers.square_sums,
                          .width = args.width,
                          .layout = StepLayout::Of(args.bucket)};
  return LaunchEnter(stream, args.rows, GivenRows{args.hidden, args.width}, next);
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

#include <cuda_runtime.h>

#include "kernels/causal_conv1d/causal_conv1d_cuda.h"
#include "kernels/math/conv.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 128;

struct Tokens {
  const float* x;
  std::int64_t x_stride;
  float* y;
  std::int64_t y_stride;
  std::int64_t count;
  float* window;  // (K-1, D)
};

// One channel, sequential in time. kWidth is K where it is known at compile time, else 0.
template <int kWidth>
__device__ void Convolve(const CausalConv1dFilter& filter, const Tokens& tokens, std::int64_t channel) {
  constexpr int kCapacity = kWidth > 0 ? kWidth : kMaxConvWidth;
  const int width = kWidth > 0 ? kWidth : filter.width;
  const std::int64_t D = filter.channels;
  F32x1 weight[kCapacity];
  F32x1 window[kCapacity];  // the last element is this token's input
#pragma unroll
  for (int k = 0; k < width; ++k) weight[k] = {filter.weight[k * D + channel]};
#pragma unroll
  for (int k = 0; k < width - 1; ++k) window[k] = {tokens.window[k * D + channel]};
  const F32x1 bias = {filter.bias != nullptr ? filter.bias[channel] : 0.0f};
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    F32x1 input = {tokens.x[t * tokens.x_stride + channel]};
    if (filter.round_input_to_bf16) input = RoundToBf16(input);
    window[width - 1] = input;
    F32x1 accumulator = bias;
#pragma unroll
    for (int k = 0; k < width; ++k) accumulator = ConvTap(accumulator, window[k], weight[k]);
    tokens.y[t * tokens.y_stride + channel] = ConvOutput(accumulator).v;
#pragma unroll
    for (int k = 0; k < width - 1; ++k) window[k] = window[k + 1];
  }
#pragma unroll
  for (int k = 0; k < width - 1; ++k) tokens.window[k * D + channel] = window[k].v;
}

template <int kWidth>
__global__ void ConvolveChunks(CausalConv1dPrefillArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int32_t slot = args.slot_index[blockIdx.x];
  if (channel >= args.filter.channels || slot == kNoSlot) return;
  const std::int64_t begin = args.offsets[blockIdx.x];
  Convolve<kWidth>(args.filter,
                   {args.x + begin * args.x_stride, args.x_stride, args.y + begin * args.y_stride,
                    args.y_stride, args.offsets[blockIdx.x + 1] - begin, args.window.At(slot)},
                   channel);
}

template <int kWidth>
__global__ void ConvolveRows(CausalConv1dStepArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = args.slot_index[row];
  if (channel >= args.filter.channels || slot == kNoSlot) return;
  Convolve<kWidth>(args.filter,
                   {args.x + row * args.x_stride, args.x_stride, args.y + row * args.y_stride, args.y_stride,
                    1, args.window.At(slot)},
                   channel);
}

template <class Args>
using Kernel = void (*)(Args);

// `kernels`: for K = 2, 3, 4, then for any.
template <class Args>
gpu::Code Launch(void* stream, const Args& args, std::int64_t rows, const Kernel<Args> (&kernels)[4]) {
  if (rows == 0) return cudaSuccess;
  const int width = args.filter.width;
  const Kernel<Args> kernel = kernels[width >= 2 && width <= 4 ? width - 2 : 3];
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>((args.filter.channels + kThreads - 1) / kThreads));
  kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace

gpu::Code CausalConv1dPrefillCuda(void* stream, const CausalConv1dPrefillArgs& args) {
  return Launch<CausalConv1dPrefillArgs>(
      stream, args, args.chunks,
      {&ConvolveChunks<2>, &ConvolveChunks<3>, &ConvolveChunks<4>, &ConvolveChunks<0>});
}

gpu::Code CausalConv1dStepCuda(void* stream, const CausalConv1dStepArgs& args) {
  return Launch<CausalConv1dStepArgs>(
      stream, args, args.rows, {&ConvolveRows<2>, &ConvolveRows<3>, &ConvolveRows<4>, &ConvolveRows<0>});
}

}  // namespace mambad::kernels

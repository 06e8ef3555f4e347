// What a piece of a prompt pass begins with: residual rows become token tiles, with what in_proj and its
// scales need of them (token_norm.cuh). And what it ends with: rows again.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_RESIDUAL_PROMPT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_RESIDUAL_PROMPT_CUH_

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/rms_norm/token_norm.cuh"

namespace mambad::kernels {

// The residual stream, as rows and as tiles.
struct ResidualPrompt {
  float* rows;   // (T, width)
  float* tiles;  // token tiles
  const TokenPlace* places;
  std::int64_t token_blocks;
  std::int32_t tokens;
  std::int32_t width;
};

// A lane's four channels of a token. A warp has 32 channels of four tokens, so that whatever it stores, in
// either form, is whole sectors: of parts of them the L2 takes a tenth as many. Grid: (token blocks,
// kBlockChannels of the channels of all slabs).
struct ResidualLane {
  static constexpr int kBlockChannels = 4 * kSquareSumChannels;

  const ResidualPrompt& residual;
  const int token, channel;

  __device__ __forceinline__ explicit ResidualLane(const ResidualPrompt& of)
      : residual(of),
        token(blockIdx.x * 8 + threadIdx.x / 8 % 8),
        channel(blockIdx.y * kBlockChannels + threadIdx.x / 64 * kSquareSumChannels + threadIdx.x % 8 * 4) {}
  __device__ __forceinline__ bool Live() const {
    return token < residual.tokens && residual.places[token].slot != kNoSlot;
  }
  // Whether there are such channels in a slab.
  __device__ __forceinline__ bool Padded() const { return channel < Slabs(residual.width) * kSlabChannels; }
  __device__ __forceinline__ std::int64_t InTiles() const {
    return TileIndex(residual.token_blocks, token, channel);
  }
  // The token's row, from the lane's channels on.
  __device__ __forceinline__ float* Row() const {
    return residual.rows + static_cast<std::int64_t>(token) * residual.width + channel;
  }
  __device__ __forceinline__ bool Whole() const {
    return residual.width % 4 == 0 && channel + 4 <= residual.width;
  }
  // From and to what may end between them, or lie anywhere.
  __device__ __forceinline__ float4 Load(const float* from) const {
    if (Whole()) return *reinterpret_cast<const float4*>(from);
    const auto at = [&](int i) { return channel + i < residual.width ? from[i] : 0.0f; };
    return {at(0), at(1), at(2), at(3)};
  }
  __device__ __forceinline__ void Store(float* to, const float4& v) const {
    if (Whole()) {
      *reinterpret_cast<float4*>(to) = v;
      return;
    }
    const auto store = [&](int i, float value) {
      if (channel + i < residual.width) to[i] = value;
    };
    store(0, v.x), store(1, v.y), store(2, v.z), store(3, v.w);
  }
};

// By the tree of token_norm.cuh, of the 32 channels of eight lanes; in each of them.
__device__ __forceinline__ float SumOfSquares(const float4& v) {
  float low = SquaresOfPair(v.x, v.y), high = SquaresOfPair(v.z, v.w);
#pragma unroll
  for (int mask = 2; mask <= 4; mask *= 2) {  // 8 and 16 channels apart
    low = __fadd_rn(low, __shfl_xor_sync(~0u, low, mask));
    high = __fadd_rn(high, __shfl_xor_sync(~0u, high, mask));
  }
  const float sum = __fadd_rn(low, high);
  return __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
}

// Tokens without a slot become zeros, and so does what a slab has beside the width.
static __global__ void __launch_bounds__(256)
    PrepareResidualKernel(const ResidualPrompt residual, const TokenNormInput norm) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const ResidualLane lane(residual);
  float4 v{}, weight{};
  if (lane.Live()) v = lane.Load(lane.Row()), weight = lane.Load(norm.weight + lane.channel);
  const float squares = SumOfSquares(v);
  if (!lane.Padded()) return;
  const std::int64_t at = lane.InTiles();
  *reinterpret_cast<float4*>(residual.tiles + at) = v;
  alignas(8)
      const __nv_bfloat162 u[2] = {__floats2bfloat162_rn(__fmul_rn(v.x, weight.x), __fmul_rn(v.y, weight.y)),
                                   __floats2bfloat162_rn(__fmul_rn(v.z, weight.z), __fmul_rn(v.w, weight.w))};
  *reinterpret_cast<uint2*>(norm.u + at) = *reinterpret_cast<const uint2*>(u);
  if (threadIdx.x % 8 == 0 && lane.channel < residual.width) {
    norm.square_sums[lane.channel / kSquareSumChannels * (residual.token_blocks * 8) + lane.token] = squares;
  }
}

// Rows of tokens without a slot stay as they are.
static __global__ void __launch_bounds__(256) ResidualRowsKernel(const ResidualPrompt residual) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const ResidualLane lane(residual);
  if (!lane.Live() || lane.channel >= residual.width) return;
  lane.Store(lane.Row(), *reinterpret_cast<const float4*>(residual.tiles + lane.InTiles()));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_RESIDUAL_PROMPT_CUH_

// What becomes of a product's elements. An epilogue's Row(segment, token) gives the place of a token's row.
// Where it is `live`, Fetch(c) reads what channels c and c + 1 (c even) need from memory, and Store takes
// that and the two sums: apart, so that many reads are under way at once.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/math/device_exp.cuh"

namespace mambad::kernels {

// A bias may be null.
__device__ __forceinline__ float2 LoadBias(const float* bias, std::uint32_t channel, std::uint32_t channels) {
  return {bias != nullptr && channel < channels ? bias[channel] : 0.0f,
          bias != nullptr && channel + 1 < channels ? bias[channel + 1] : 0.0f};
}

// bf16 token tiles.
struct StoreBf16 {
  __nv_bfloat16* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct RowPlace {
    const StoreBf16& to;
    __nv_bfloat16* row;
    bool live;
    __device__ __forceinline__ float2 Fetch(std::uint32_t channel) const {
      return LoadBias(to.bias, channel, to.channels);
    }
    __device__ __forceinline__ void Store(std::uint32_t channel, float2 bias, float v0, float v1) const {
      if (channel >= to.channels) return;
      *reinterpret_cast<__nv_bfloat162*>(row + channel / 64 * (to.token_blocks * 512) +
                                         channel % 64 / 8 * 64 + channel % 8) =
          __floats2bfloat162_rn(__fadd_rn(v0, bias.x), __fadd_rn(v1, bias.y));
    }
  };
  __device__ __forceinline__ RowPlace Row(int, std::uint32_t token) const {
    return {*this, out + TileIndex(token_blocks, token, 0), token < tokens};
  }
};

// delta = softplus(product + bias), fp32 token tiles by DeltaIndex.
struct StoreDelta {
  float* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct RowPlace {
    const StoreDelta& to;
    float* row;
    bool live;
    __device__ __forceinline__ float2 Fetch(std::uint32_t channel) const {
      return LoadBias(to.bias, channel, to.channels);
    }
    __device__ __forceinline__ void Store(std::uint32_t channel, float2 bias, float v0, float v1) const {
      // First, and for channels past the end too: so the chains of several stores overlap.
      const float2 delta = {FastSoftplus(__fadd_rn(v0, bias.x)), FastSoftplus(__fadd_rn(v1, bias.y))};
      if (channel < to.channels) {
        float* const at =
            row + channel / 64 * (to.token_blocks * 512) + channel % 64 / 8 * 64 + channel % 8 * 8;
        at[0] = delta.x;
        at[8] = delta.y;
      }
    }
  };
  __device__ __forceinline__ RowPlace Row(int, std::uint32_t token) const {
    return {*this, out + DeltaIndex(token_blocks, token, 0), token < tokens};
  }
};

// residual += product + bias, rows of fp32. Tokens without a slot keep theirs.
struct AddToTokens {
  float* residual;
  const float* bias;
  const TokenPlace* places;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct RowPlace {
    const AddToTokens& to;
    float* row;
    bool live;
    __device__ __forceinline__ bool Pairs() const { return to.channels % 2 == 0; }
    // The old values.
    __device__ __forceinline__ float2 Fetch(std::uint32_t channel) const {
      if (channel >= to.channels) return {0.0f, 0.0f};
      if (Pairs()) return *reinterpret_cast<const float2*>(row + channel);
      return {row[channel], channel + 1 < to.channels ? row[channel + 1] : 0.0f};
    }
    __device__ __forceinline__ void Store(std::uint32_t channel, float2 old, float v0, float v1) const {
      if (channel >= to.channels) return;
      const float2 bias = LoadBias(to.bias, channel, to.channels);
      const float2 sum = {__fadd_rn(old.x, __fadd_rn(v0, bias.x)), __fadd_rn(old.y, __fadd_rn(v1, bias.y))};
      if (Pairs()) {
        *reinterpret_cast<float2*>(row + channel) = sum;
      } else {
        row[channel] = sum.x;
        if (channel + 1 < to.channels) row[channel + 1] = sum.y;
      }
    }
  };
  // The old values of a tile's row, which have left the L2 since the norm read them.
  __device__ __forceinline__ void Prefetch(std::uint32_t token, std::uint32_t channel,
                                           std::uint32_t columns) const {
    if (token >= tokens) return;
    const float* row = residual + static_cast<std::int64_t>(token) * channels;
    const std::uint32_t end = channel + columns < channels ? channel + columns : channels;
    for (; channel < end; channel += 32) PrefetchLine(row + channel);
  }
  __device__ __forceinline__ RowPlace Row(int, std::uint32_t token) const {
    return {*this, residual + static_cast<std::int64_t>(token) * channels,
            token < tokens && places[token].slot != kNoSlot};
  }
};

// The sums of the K segments apart: (segments, padded tokens, stride) fp32.
struct StoreSegments {
  float* out;
  std::int64_t padded_tokens;
  std::uint32_t stride;  // even
  std::uint32_t tokens;

  struct RowPlace {
    const StoreSegments& to;
    float* row;
    bool live;
    __device__ __forceinline__ float2 Fetch(std::uint32_t) const { return {}; }
    __device__ __forceinline__ void Store(std::uint32_t channel, float2, float v0, float v1) const {
      if (channel < to.stride) *reinterpret_cast<float2*>(row + channel) = {v0, v1};
    }
  };
  __device__ __forceinline__ RowPlace Row(int segment, std::uint32_t token) const {
    return {*this, out + (segment * padded_tokens + token) * stride, token < tokens};
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

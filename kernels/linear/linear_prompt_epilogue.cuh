// What becomes of a product's elements. An epilogue's Row(segment, token) gives the place of a token's row,
// whose Store takes channels c and c + 1 (c even) where `live` says so.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/math/device_exp.cuh"

namespace mambad::kernels {

// A bias may be null.
__device__ __forceinline__ float2 LoadBias(const float* bias, std::uint32_t channel, std::uint32_t channels) {
  if (bias == nullptr) return {0.0f, 0.0f};
  return {bias[channel], channel + 1 < channels ? bias[channel + 1] : 0.0f};
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
    __device__ __forceinline__ void Store(std::uint32_t channel, float v0, float v1) const {
      if (channel >= to.channels) return;
      if (to.bias != nullptr) {
        const float2 b = LoadBias(to.bias, channel, to.channels);
        v0 = __fadd_rn(v0, b.x);
        v1 = __fadd_rn(v1, b.y);
      }
      *reinterpret_cast<__nv_bfloat162*>(row + channel / 64 * (to.token_blocks * 512) + channel % 64 / 8 * 64 +
                                         channel % 8) = __floats2bfloat162_rn(v0, v1);
    }
  };
  __device__ __forceinline__ RowPlace Row(int, std::uint32_t token) const {
    return {*this, out + TileIndex(token_blocks, token, 0), token < tokens};
  }
};

// delta = softplus(product + bias), fp32 token tiles.
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
    __device__ __forceinline__ void Store(std::uint32_t channel, float v0, float v1) const {
      if (channel >= to.channels) return;
      const float2 b = LoadBias(to.bias, channel, to.channels);
      *reinterpret_cast<float2*>(row + channel / 64 * (to.token_blocks * 512) + channel % 64 / 8 * 64 +
                                 channel % 8) = {FastSoftplus(__fadd_rn(v0, b.x)),
                                                 FastSoftplus(__fadd_rn(v1, b.y))};
    }
  };
  __device__ __forceinline__ RowPlace Row(int, std::uint32_t token) const {
    return {*this, out + TileIndex(token_blocks, token, 0), token < tokens};
  }
};

// residual += product + bias, rows of fp32. Tokens without a slot keep theirs.
struct AddToResidual {
  float* residual;
  const float* bias;
  const TokenPlace* places;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct RowPlace {
    const AddToResidual& to;
    float* row;
    bool live;
    __device__ __forceinline__ void Store(std::uint32_t channel, float v0, float v1) const {
      if (channel >= to.channels) return;
      const float2 b = LoadBias(to.bias, channel, to.channels);
      if (to.channels % 2 == 0) {
        float2* at = reinterpret_cast<float2*>(row + channel);
        const float2 old = *at;
        *at = {__fadd_rn(old.x, __fadd_rn(v0, b.x)), __fadd_rn(old.y, __fadd_rn(v1, b.y))};
      } else {
        row[channel] = __fadd_rn(row[channel], __fadd_rn(v0, b.x));
        if (channel + 1 < to.channels) row[channel + 1] = __fadd_rn(row[channel + 1], __fadd_rn(v1, b.y));
      }
    }
  };
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
    __device__ __forceinline__ void Store(std::uint32_t channel, float v0, float v1) const {
      if (channel < to.stride) *reinterpret_cast<float2*>(row + channel) = {v0, v1};
    }
  };
  __device__ __forceinline__ RowPlace Row(int segment, std::uint32_t token) const {
    return {*this, out + (segment * padded_tokens + token) * stride, token < tokens};
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

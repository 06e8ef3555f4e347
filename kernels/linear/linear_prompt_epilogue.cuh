// What becomes of a product's elements: the epilogues that SumStores hands them to.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/linear/linear_prompt.cuh"
#include "kernels/math/device_exp.cuh"

namespace mambad::kernels {

// Of two channels, the first one even. A bias may be null; one of whole tiles is aligned to 8 bytes.
template <bool kWhole = false>
__device__ __forceinline__ float2 LoadBias(const float* bias, std::uint32_t channel, std::uint32_t channels) {
  if constexpr (kWhole) {
    return bias != nullptr ? *reinterpret_cast<const float2*>(bias + channel) : float2{0.0f, 0.0f};
  } else {
    return {bias != nullptr && channel < channels ? bias[channel] : 0.0f,
            bias != nullptr && channel + 1 < channels ? bias[channel + 1] : 0.0f};
  }
}

// Of a lane's columns of a group.
struct BiasPairs {
  float2 of[kGroupBlocks];

  template <bool kWhole>
  static __device__ __forceinline__ BiasPairs Load(const float* bias, std::uint32_t channel,
                                                   std::uint32_t channels) {
    BiasPairs pairs;
#pragma unroll
    for (int b = 0; b < kGroupBlocks; ++b) pairs.of[b] = LoadBias<kWhole>(bias, channel + b * 8, channels);
    return pairs;
  }
};

// Of epilogues that need no more than the sums.
struct Nothing {};

// A lane's place in token tiles of T.
template <class T>
struct TileLane {
  T* at;  // of row 0, in the block of the channels 0 to 7
  std::int64_t token_blocks;
  const float* bias;
  std::uint32_t token, tokens;
  std::uint32_t channel, channels;

  template <bool kWhole>
  struct Columns {
    T* at;
    std::int32_t left;  // channels from the group's first on

    __device__ __forceinline__ bool Has(int b) const { return kWhole || b * 8 < left; }
    __device__ __forceinline__ T* At(int r, int b) const { return at + RowToken(r) / 8 * 512 + b * 64; }
  };

  __device__ __forceinline__ bool Live(int r) const { return token + RowToken(r) < tokens; }
  __device__ __forceinline__ bool Whole(int columns) const { return channel / 8 * 8 + columns <= channels; }
  template <bool kWhole>
  __device__ __forceinline__ Nothing Fetch(int, int) const {
    return {};
  }
  template <bool kWhole>
  __device__ __forceinline__ BiasPairs Bias(int group) const {
    return BiasPairs::Load<kWhole>(bias, channel + group * kGroupBlocks * 8, channels);
  }
  template <bool kWhole>
  __device__ __forceinline__ Columns<kWhole> Of(int group) const {
    const std::uint32_t first = channel + group * kGroupBlocks * 8;
    Columns<kWhole> columns;
    columns.at = at + first / 64 * (token_blocks * 512) + first % 64 / 8 * 64;
    columns.left = static_cast<std::int32_t>(channels - first);
    return columns;
  }
};

// bf16 token tiles.
struct StoreBf16 {
  static constexpr bool kFetches = false;
  using Fetched = Nothing;
  using GroupBias = BiasPairs;
  __nv_bfloat16* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct Place : TileLane<__nv_bfloat16> {
    template <bool kWhole>
    struct Stores : Columns<kWhole> {
      __device__ __forceinline__ void Store(int r, int b, bool live, Fetched, const BiasPairs& bias, float v0,
                                            float v1) const {
        if (!live || !this->Has(b)) return;
        *reinterpret_cast<__nv_bfloat162*>(this->At(r, b)) =
            __floats2bfloat162_rn(__fadd_rn(v0, bias.of[b].x), __fadd_rn(v1, bias.of[b].y));
      }
    };
    template <bool kWhole>
    __device__ __forceinline__ Stores<kWhole> Group(int group) const {
      return {Of<kWhole>(group)};
    }
  };
  __device__ __forceinline__ Place At(int, std::uint32_t token, std::uint32_t channel) const {
    return {{out + token / 8 * 512 + token % 8 * 8 + channel % 8, token_blocks, bias, token, tokens, channel,
             channels}};
  }
};

// delta = softplus(product + bias), fp32 token tiles by DeltaIndex.
struct StoreDelta {
  static constexpr bool kFetches = false;
  using Fetched = Nothing;
  using GroupBias = BiasPairs;
  float* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct Place : TileLane<float> {
    template <bool kWhole>
    struct Stores : Columns<kWhole> {
      __device__ __forceinline__ void Store(int r, int b, bool live, Fetched, const BiasPairs& bias, float v0,
                                            float v1) const {
        // First, and for what is not stored too: so the chains of several stores overlap.
        const float2 delta = {FastSoftplus(__fadd_rn(v0, bias.of[b].x)),
                              FastSoftplus(__fadd_rn(v1, bias.of[b].y))};
        if (!live || !this->Has(b)) return;
        float* const at = this->At(r, b);
        at[0] = delta.x;
        at[8] = delta.y;
      }
    };
    template <bool kWhole>
    __device__ __forceinline__ Stores<kWhole> Group(int group) const {
      return {Of<kWhole>(group)};
    }
  };
  __device__ __forceinline__ Place At(int, std::uint32_t token, std::uint32_t channel) const {
    return {{out + token / 8 * 512 + channel % 8 * 8 + token % 8, token_blocks, bias, token, tokens, channel,
             channels}};
  }
};

// residual += product + bias, rows of fp32. Tokens without a slot keep theirs.
struct AddToTokens {
  static constexpr bool kFetches = true;
  struct Fetched {
    float2 old[kGroupBlocks];
  };
  using GroupBias = Nothing;
  float* residual;
  const float* bias;
  const TokenPlace* places;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct Place {
    const AddToTokens& to;
    float* at;  // of row 0 and the first column
    std::uint32_t token, channel;

    __device__ __forceinline__ float* At(int group, int r) const {
      return at + static_cast<std::int64_t>(RowToken(r)) * to.channels + group * kGroupBlocks * 8;
    }
    // Columns from block b of a group on.
    __device__ __forceinline__ std::int32_t Left(int group, int b) const {
      return static_cast<std::int32_t>(to.channels - channel) - (group * kGroupBlocks + b) * 8;
    }

    __device__ __forceinline__ bool Live(int r) const {
      return token + RowToken(r) < to.tokens && to.places[token + RowToken(r)].slot != kNoSlot;
    }
    // Nor a bias, which nearly no model has here, nor rows that begin between pairs.
    __device__ __forceinline__ bool Whole(int columns) const {
      return to.bias == nullptr && to.channels % 2 == 0 && channel / 8 * 8 + columns <= to.channels;
    }
    template <bool kWhole>
    __device__ __forceinline__ GroupBias Bias(int) const {
      return {};
    }
    template <bool kWhole>
    __device__ __forceinline__ Fetched Fetch(int group, int r) const {
      const float* const row = At(group, r);
      Fetched fetched;
#pragma unroll
      for (int b = 0; b < kGroupBlocks; ++b) {
        if constexpr (kWhole) {
          fetched.old[b] = *reinterpret_cast<const float2*>(row + b * 8);
        } else {
          fetched.old[b] = {Left(group, b) > 0 ? row[b * 8] : 0.0f,
                            Left(group, b) > 1 ? row[b * 8 + 1] : 0.0f};
        }
      }
      return fetched;
    }

    template <bool kWhole>
    struct Columns {
      const Place& place;
      int group;
      __device__ __forceinline__ void Store(int r, int b, bool live, const Fetched& fetched, GroupBias,
                                            float v0, float v1) const {
        if (!live) return;
        float2 bias{0.0f, 0.0f};
        if constexpr (!kWhole) {
          bias = LoadBias(place.to.bias, place.channel + (group * kGroupBlocks + b) * 8, place.to.channels);
        }
        float* const at = place.At(group, r) + b * 8;
        const float2 sum = {__fadd_rn(fetched.old[b].x, __fadd_rn(v0, bias.x)),
                            __fadd_rn(fetched.old[b].y, __fadd_rn(v1, bias.y))};
        if constexpr (kWhole) {
          *reinterpret_cast<float2*>(at) = sum;
        } else {
          if (place.Left(group, b) > 0) at[0] = sum.x;
          if (place.Left(group, b) > 1) at[1] = sum.y;
        }
      }
    };
    template <bool kWhole>
    __device__ __forceinline__ Columns<kWhole> Group(int group) const {
      return {*this, group};
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
  __device__ __forceinline__ Place At(int, std::uint32_t token, std::uint32_t channel) const {
    return {*this, residual + static_cast<std::int64_t>(token) * channels + channel, token, channel};
  }
};

// The sums of the K segments apart: fp32 (segments, token blocks, channel blocks, 8 tokens, 8 channels), so
// that a warp stores 256 consecutive bytes of a block.
struct StoreSegments {
  static constexpr bool kFetches = false;
  using Fetched = Nothing;
  using GroupBias = Nothing;
  float* out;
  std::int64_t token_blocks;
  std::uint32_t channel_blocks;
  std::uint32_t tokens;

  struct Place {
    float* at;                   // of row 0, in the lane's first channel block
    std::uint32_t token_stride;  // of a token block
    std::uint32_t token, tokens, block, blocks;

    __device__ __forceinline__ bool Live(int r) const { return token + RowToken(r) < tokens; }
    __device__ __forceinline__ bool Whole(int columns) const { return block + columns / 8 <= blocks; }
    template <bool kWhole>
    __device__ __forceinline__ Fetched Fetch(int, int) const {
      return {};
    }
    template <bool kWhole>
    __device__ __forceinline__ GroupBias Bias(int) const {
      return {};
    }
    template <bool kWhole>
    struct Columns {
      const Place& place;
      int group;
      __device__ __forceinline__ void Store(int r, int b, bool live, Fetched, GroupBias, float v0,
                                            float v1) const {
        const std::uint32_t block = group * kGroupBlocks + b;
        if (!live || !(kWhole || place.block + block < place.blocks)) return;
        *reinterpret_cast<float2*>(place.at + RowToken(r) / 8 * place.token_stride + block * 64) = {v0, v1};
      }
    };
    template <bool kWhole>
    __device__ __forceinline__ Columns<kWhole> Group(int group) const {
      return {*this, group};
    }
  };
  __device__ __forceinline__ Place At(int segment, std::uint32_t token, std::uint32_t channel) const {
    const std::uint32_t token_stride = channel_blocks * 64, block = channel / 8;
    return {
        out + (segment * token_blocks + token / 8) * token_stride + block * 64 + token % 8 * 8 + channel % 8,
        token_stride,
        token,
        tokens,
        block,
        channel_blocks};
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

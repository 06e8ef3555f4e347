// What becomes of a product's elements: the epilogues that SumStores hands them to.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_EPILOGUE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/linear/linear_prompt.cuh"
#include "kernels/math/device_exp.cuh"
#include "kernels/rms_norm/token_norm.cuh"

namespace mambad::kernels {

// Two channels of a vector, the first one even; zeros of none (null). One of whole tiles is aligned to 8
// bytes.
template <bool kWhole = false>
__device__ __forceinline__ float2 LoadPair(const float* vector, std::uint32_t channel,
                                           std::uint32_t channels) {
  if constexpr (kWhole) {
    return vector != nullptr ? *reinterpret_cast<const float2*>(vector + channel) : float2{0.0f, 0.0f};
  } else {
    return {vector != nullptr && channel < channels ? vector[channel] : 0.0f,
            vector != nullptr && channel + 1 < channels ? vector[channel + 1] : 0.0f};
  }
}

// Of a lane's columns of a group.
struct VectorPairs {
  float2 of[kGroupBlocks];

  template <bool kWhole>
  static __device__ __forceinline__ VectorPairs Load(const float* vector, std::uint32_t channel,
                                                     std::uint32_t channels) {
    VectorPairs pairs;
#pragma unroll
    for (int b = 0; b < kGroupBlocks; ++b) pairs.of[b] = LoadPair<kWhole>(vector, channel + b * 8, channels);
    return pairs;
  }
};

// Over a row's columns of a group, by the tree of token_norm.cuh: in each of the row's four lanes.
__device__ __forceinline__ float SumOfSquares(const float2 (&v)[kGroupBlocks]) {
  static_assert(kGroupBlocks == 4 && kGroupBlocks * 8 == kSquareSumChannels);
  float of_pair[kGroupBlocks];
#pragma unroll
  for (int b = 0; b < kGroupBlocks; ++b) of_pair[b] = SquaresOfPair(v[b].x, v[b].y);
  float sum = __fadd_rn(__fadd_rn(of_pair[0], of_pair[1]), __fadd_rn(of_pair[2], of_pair[3]));
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
  return __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 2));
}

// From the block of the channels 0 to 7 to that of a group's first channel, in token tiles.
__device__ __forceinline__ std::int64_t GroupOffset(std::int64_t token_blocks, std::uint32_t channel) {
  return channel / 64 * (token_blocks * 512) + channel % 64 / 8 * 64;
}

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
  __device__ __forceinline__ VectorPairs Vector(int group) const {
    return VectorPairs::Load<kWhole>(bias, channel + group * kGroupBlocks * 8, channels);
  }
  template <bool kWhole>
  __device__ __forceinline__ Columns<kWhole> Of(int group) const {
    const std::uint32_t first = channel + group * kGroupBlocks * 8;
    Columns<kWhole> columns;
    columns.at = at + GroupOffset(token_blocks, first);
    columns.left = static_cast<std::int32_t>(channels - first);
    return columns;
  }
};

// in_proj's: bf16 token tiles of (product by the token's scale) + bias.
struct StoreScaledBf16 {
  static constexpr bool kAdds = false;
  static constexpr bool kScales = true;
  using GroupVector = VectorPairs;
  __nv_bfloat16* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;
  TokenNorm norm;

  struct Place : TileLane<__nv_bfloat16> {
    template <bool kWhole>
    struct Stores : Columns<kWhole> {
      __device__ __forceinline__ void Store(int r, bool live, const VectorPairs& bias,
                                            const float2 (&v)[kGroupBlocks]) const {
        if (!live) return;
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          if (!this->Has(b)) continue;
          *reinterpret_cast<__nv_bfloat162*>(this->At(r, b)) =
              __floats2bfloat162_rn(__fadd_rn(v[b].x, bias.of[b].x), __fadd_rn(v[b].y, bias.of[b].y));
        }
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
  static constexpr bool kAdds = false;
  static constexpr bool kScales = false;
  using GroupVector = VectorPairs;
  float* out;
  const float* bias;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;

  struct Place : TileLane<float> {
    template <bool kWhole>
    struct Stores : Columns<kWhole> {
      __device__ __forceinline__ void Store(int r, bool live, const VectorPairs& bias,
                                            const float2 (&v)[kGroupBlocks]) const {
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          // First, and for what is not stored too: so the chains of several stores overlap.
          const float2 delta = {FastSoftplus(__fadd_rn(v[b].x, bias.of[b].x)),
                                FastSoftplus(__fadd_rn(v[b].y, bias.of[b].y))};
          if (!live || !this->Has(b)) continue;
          float* const at = this->At(r, b);
          at[0] = delta.x;
          at[8] = delta.y;
        }
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

// residual += product + bias, in fp32 token tiles, and what the next norm needs of it. Tokens without a slot
// keep theirs.
struct AddToTokens {
  static constexpr bool kAdds = true;
  static constexpr bool kScales = false;
  using GroupVector = Nothing;
  float* tiles;
  const float* bias;
  const TokenPlace* places;
  std::int64_t token_blocks;
  std::uint32_t tokens;
  std::uint32_t channels;
  TokenNormInput norm;

  struct Place {
    const AddToTokens& to;
    std::uint32_t offset;  // of row 0 in its token blocks
    std::uint32_t token, channel;

    // From the first element of the tiles, of fp32 and of bf16.
    __device__ __forceinline__ std::int64_t Offset(int group, int r) const {
      return GroupOffset(to.token_blocks, channel + group * kGroupBlocks * 8) + offset +
             RowToken(r) / 8 * 512;
    }
    // Columns from block b of a group on.
    __device__ __forceinline__ std::int32_t Left(int group, int b) const {
      return static_cast<std::int32_t>(to.channels - channel) - (group * kGroupBlocks + b) * 8;
    }

    __device__ __forceinline__ bool Live(int r) const {
      return token + RowToken(r) < to.tokens && to.places[token + RowToken(r)].slot != kNoSlot;
    }
    // Nor a bias, which nearly no model has here.
    __device__ __forceinline__ bool Whole(int columns) const {
      return to.bias == nullptr && channel / 8 * 8 + columns <= to.channels;
    }
    template <bool kWhole>
    __device__ __forceinline__ GroupVector Vector(int) const {
      return {};
    }

    template <bool kWhole>
    __device__ __forceinline__ OldSums Old(int group, int r) const {
      const float* const tile = to.tiles + Offset(group, r);
      OldSums old = {};
#pragma unroll
      for (int b = 0; b < kGroupBlocks; ++b) {
        if (kWhole || Left(group, b) > 0) old.of[b] = *reinterpret_cast<const float2*>(tile + b * 64);
      }
      return old;
    }

    template <bool kWhole>
    struct Columns {
      const Place& place;
      int group;
      VectorPairs weight;  // of the norm; not ahead of the group, for want of registers

      __device__ __forceinline__ bool Has(int b, int i) const { return kWhole || place.Left(group, b) > i; }
      __device__ __forceinline__ std::uint32_t First() const {
        return place.channel + group * kGroupBlocks * 8;
      }
      // By all lanes of the warp.
      __device__ __forceinline__ void Store(int r, bool live, GroupVector, const float2 (&v)[kGroupBlocks],
                                            const OldSums& old) const {
        float2 sum[kGroupBlocks];  // 0 where there is no column
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          float2 addend = v[b];
          if (!kWhole && place.to.bias != nullptr) {
            const float2 bias = LoadPair(place.to.bias, First() + b * 8, place.to.channels);
            addend = {__fadd_rn(addend.x, bias.x), __fadd_rn(addend.y, bias.y)};
          }
          sum[b] = {Has(b, 0) ? __fadd_rn(old.of[b].x, addend.x) : 0.0f,
                    Has(b, 1) ? __fadd_rn(old.of[b].y, addend.y) : 0.0f};
        }
        const TokenNormInput& norm = place.to.norm;
        const float squares = SumOfSquares(sum);
        if (!live || !Has(0, 0)) return;
        const std::int64_t offset = place.Offset(group, r);
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          if (!Has(b, 0)) continue;
          *reinterpret_cast<float2*>(place.to.tiles + offset + b * 64) = sum[b];
          if (norm.weight == nullptr) continue;
          *reinterpret_cast<__nv_bfloat162*>(norm.u + offset + b * 64) =
              __floats2bfloat162_rn(__fmul_rn(sum[b].x, weight.of[b].x), __fmul_rn(sum[b].y, weight.of[b].y));
        }
        if (norm.weight != nullptr && threadIdx.x % 4 == 0) {
          norm.square_sums[First() / kSquareSumChannels * (place.to.token_blocks * 8) + place.token +
                           RowToken(r)] = squares;
        }
      }
    };
    template <bool kWhole>
    __device__ __forceinline__ Columns<kWhole> Group(int group) const {
      return {*this, group,
              VectorPairs::Load<kWhole>(to.norm.weight, channel + group * kGroupBlocks * 8, to.channels)};
    }
  };
  // The old values of a tile's eight tokens, which have left the L2 since they were written.
  __device__ __forceinline__ void Prefetch(std::uint32_t token, std::uint32_t channel,
                                           std::uint32_t columns) const {
    if (token >= tokens) return;
    const std::uint32_t end = channel + columns < channels ? channel + columns : channels;
    // 32 floats of an 8x8 block a thread: of eight tokens, two fetch the halves of every fourth block.
    for (channel += token % 8 / 2 * 8; channel < end; channel += 32) {
      PrefetchLine(tiles + GroupOffset(token_blocks, channel) + token / 8 * 512 + token % 2 * 32);
    }
  }
  __device__ __forceinline__ Place At(int, std::uint32_t token, std::uint32_t channel) const {
    return {*this, token / 8 * 512 + token % 8 * 8 + channel % 8, token, channel};
  }
};

// The sums of the K segments apart: fp32 (segments, token blocks, channel blocks, 8 tokens, 8 channels), so
// that a warp stores 256 consecutive bytes of a block.
struct StoreSegments {
  static constexpr bool kAdds = false;
  static constexpr bool kScales = false;
  using GroupVector = Nothing;
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
    __device__ __forceinline__ GroupVector Vector(int) const {
      return {};
    }
    template <bool kWhole>
    struct Columns {
      const Place& place;
      int group;
      __device__ __forceinline__ void Store(int r, bool live, GroupVector,
                                            const float2 (&v)[kGroupBlocks]) const {
        if (!live) return;
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          const std::uint32_t block = group * kGroupBlocks + b;
          if (!(kWhole || place.block + block < place.blocks)) continue;
          *reinterpret_cast<float2*>(place.at + RowToken(r) / 8 * place.token_stride + block * 64) = v[b];
        }
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

// The convolution with SiLU and x_proj in one kernel, on Hopper, for the width and the ranks that models
// have: x is the product's operand before it leaves the multiprocessor.
//
// A block takes 128 tokens of one K segment, a ring of slabs of in_proj's output and of the weight. A warp
// turns a slab's channel block into x in place, in shared memory, where the tile is the product's operand and
// then the source of the copy to x's own buffer. A lane goes through a run of tokens of two channels with the
// window in registers. Same sums in the same order as the two kernels apart.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_CONV_X_PROJ_PROMPT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_CONV_X_PROJ_PROMPT_CUH_

#include "kernels/causal_conv1d/causal_conv1d_prompt.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/linear/linear_prompt_epilogue.cuh"
#include "kernels/linear/linear_prompt_launch.cuh"
#include "kernels/mamba_layer/hopper.cuh"

namespace mambad::kernels {

// The runs of a channel pair begin at different tokens mod 8, so that a warp's accesses touch all banks; the
// last one reaches into a token block past the tile, which is computed and never read.
inline constexpr int kConvRun = 17;
static_assert(kConvRun % 8 == 1 && 8 * kConvRun <= kTokenTile + 8 && 7 * kConvRun < kTokenTile);
inline constexpr int kConvWidth = 4;

// A stage: the token block before the tile, the tile, the block past it, the weight's slab.
template <int kCols>
struct ConvXProjStages {
  static constexpr int kBlockBytes = 8 * kSlabChannels * 2;
  static constexpr int kTileBytes = kTokenTile / 8 * kBlockBytes;
  static constexpr int kWAt = kTileBytes + 2 * kBlockBytes;
  static constexpr int kWBytes = kCols / 8 * kBlockBytes;
  static constexpr int kStageBytes = kWAt + kWBytes;
  // Where the weight is small two blocks share a multiprocessor.
  static constexpr int kStages = (kCols <= 96 ? 104 : 208) * 1024 / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024;
  static_assert(kStages >= 3);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Two channels of a lane.
struct ConvPair {
  float2 weight[kConvWidth];
  float2 bias;
  std::uint32_t mask;  // of the results: zero past D

  __device__ __forceinline__ void Load(const CausalConv1dPrompt& args, int channel) {
    const std::uint32_t c = channel, channels = args.channels;
    if (channels % 2 == 0 && c < channels) {
#pragma unroll
      for (int k = 0; k < kConvWidth; ++k) {
        weight[k] = *reinterpret_cast<const float2*>(args.weight + k * channels + c);
      }
      bias = args.bias != nullptr ? *reinterpret_cast<const float2*>(args.bias + c) : float2{};
    } else {
#pragma unroll
      for (int k = 0; k < kConvWidth; ++k) weight[k] = LoadBias(args.weight + k * channels, c, channels);
      bias = LoadBias(args.bias, c, channels);
    }
    mask = (c < channels ? 0xffffu : 0u) | (c + 1 < channels ? 0xffff0000u : 0u);
  }
  // The result at a token from its inputs, oldest first.
  __device__ __forceinline__ std::uint32_t Result(const float2 (&input)[kConvWidth]) const {
    float2 sum = bias;
#pragma unroll
    for (int k = 0; k < kConvWidth; ++k) {
      sum.x = __fmaf_rn(input[k].x, weight[k].x, sum.x);
      sum.y = __fmaf_rn(input[k].y, weight[k].y, sum.y);
    }
    const __nv_bfloat162 out = __floats2bfloat162_rn(FastSilu(sum.x), FastSilu(sum.y));
    return reinterpret_cast<const std::uint32_t&>(out) & mask;
  }
};

__device__ __forceinline__ float2 WidenPair(std::uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

// No branch, around which the compiler would not mix the work of several tokens.
__device__ __forceinline__ void StoreSharedUnless(std::uint32_t condition, std::uint32_t* to,
                                                  std::uint32_t value) {
  asm volatile(
      "{\n.reg .pred none;\nsetp.eq.u32 none, %0, 0;\n@none st.shared.b32 [%1], %2;\n}\n" ::"r"(condition),
      "r"(SharedAddress(to)), "r"(value)
      : "memory");
}

// The tokens of a tile at which a window reaches over the beginning of their chunk, into the slot.
struct ConvStarts {
  struct Start {
    std::int32_t token, slot, position;
  };
  int count;
  std::uint32_t mask[kTokenTile / 32 + 1];  // by token
  Start at[kTokenTile];

  // By all threads of the block, of which the first kTokenTile have a token each.
  __device__ __forceinline__ void Find(const CausalConv1dPrompt& args, std::int32_t first_token) {
    const int token = threadIdx.x, warp = token / 32;
    TokenPlace place{kNoSlot, 0, 0, 0};
    if (token < kTokenTile && first_token + token < args.tokens) place = args.places[first_token + token];
    const bool starts = place.slot != kNoSlot && place.position < kConvWidth - 1;
    const std::uint32_t own = __ballot_sync(~0u, starts);
    if (token % 32 == 0 && warp <= kTokenTile / 32) mask[warp] = own;
    __syncthreads();
    int before = __popc(own & ((1u << token % 32) - 1));
    for (int i = 0; i < warp && i < kTokenTile / 32; ++i) before += __popc(mask[i]);
    if (starts) at[before] = {token, place.slot, place.position};
    if (token == kTokenTile) count = before;
    __syncthreads();
  }
  // Bit i: token first + i, of a run.
  __device__ __forceinline__ std::uint32_t Run(int first) const {
    return __funnelshift_r(mask[first / 32], mask[first / 32 + 1], first % 32);
  }
};

// The part of a start's window that lies in the slot, by input; of a lane's two channels.
struct ConvStartTaps {
  float2 input[kConvWidth - 1];

  __device__ __forceinline__ void Load(const CausalConv1dPrompt& args, const ConvStarts::Start& start,
                                       std::uint32_t channel) {
    const std::uint32_t channels = args.channels;
    const __nv_bfloat16* window =
        args.window.Bf16At(start.slot) + static_cast<std::int64_t>(start.position) * channels;
    const auto tap = [&](int k, std::uint32_t c) {
      return c < channels ? __bfloat162float(window[k * channels + c]) : 0.0f;
    };
#pragma unroll
    for (int k = 0; k + 1 < kConvWidth; ++k) {
      if (k + start.position + 1 < kConvWidth) input[k] = {tap(k, channel), tap(k, channel + 1)};
    }
  }
};

// A channel block of a tile in shared memory, in the hands of a warp: `pairs` is the lane's channel pair of
// the first token.
struct ConvTile {
  std::uint32_t* pairs;

  // Token blocks lie 1 KB apart, tokens 16 bytes.
  __device__ __forceinline__ std::uint32_t& At(int token) const {
    return pairs[(token >> 3) * 256 + (token & 7) * 4];
  }

  // The results at a tile's starts, in place, eight at a time: lane / 4 chooses the start. From the last one
  // back, so that no result takes the place of an input. `taps` are those of the lane's first start.
  __device__ __forceinline__ void ConvolveStarts(const CausalConv1dPrompt& args, const ConvStarts& starts,
                                                 const ConvPair& pair, ConvStartTaps taps,
                                                 int channel) const {
    for (int last = starts.count - 1; last >= 0; last -= 8) {
      const int index = last - static_cast<int>(threadIdx.x % 32 / 4);
      std::uint32_t result = 0;
      ConvStarts::Start start{};
      if (index >= 0) {
        start = starts.at[index];
        if (last < starts.count - 1) taps.Load(args, start, channel);
        float2 input[kConvWidth];
#pragma unroll
        for (int k = 0; k < kConvWidth; ++k) {
          input[k] = WidenPair(At(start.token + k - (kConvWidth - 1)));
          if (k + 1 < kConvWidth && k + start.position + 1 < kConvWidth) input[k] = taps.input[k];
        }
        result = pair.Result(input);
      }
      __syncwarp();
      if (index >= 0) At(start.token) = result;
      __syncwarp();
    }
  }
};

// A lane's run in a ConvTile: tokens kConvRun * `run` + i.
struct ConvRunPlace {
  std::uint32_t* at[8];  // of token i, less a constant of i, by i mod 8

  __device__ __forceinline__ ConvRunPlace(const ConvTile& tile, int run) {
    // The token's block is 2 run + (run + i) / 8.
    std::uint32_t* const first = tile.pairs + run * (2 * 256 + 4);
#pragma unroll
    for (int k = 0; k < 8; ++k) at[k] = run + k >= 8 ? first + (256 - 32) : first;
  }
  __device__ __forceinline__ std::uint32_t* At(int i) const {
    return at[i & 7] + (i >> 3) * (256 - 32) + i * 4;
  }
  // The inputs, the window first.
  __device__ __forceinline__ void Load(std::uint32_t (&inputs)[kConvWidth - 1 + kConvRun]) const {
#pragma unroll
    for (int i = 0; i < kConvWidth - 1 + kConvRun; ++i) inputs[i] = *At(i - (kConvWidth - 1));
  }
  // The results in place, but for those at the bits of `starts`.
  __device__ __forceinline__ void Convolve(const ConvPair& pair, std::uint32_t starts,
                                           const std::uint32_t (&inputs)[kConvWidth - 1 + kConvRun]) const {
#pragma unroll
    for (int i = 0; i < kConvRun; ++i) {
      float2 input[kConvWidth];
#pragma unroll
      for (int k = 0; k < kConvWidth; ++k) input[k] = WidenPair(inputs[i + k]);
      StoreSharedUnless(starts & 1u << i, At(i), pair.Result(input));
    }
  }
};

// The ring as one thread feeds it: the slabs of a block's segment.
template <int kCols>
struct ConvXProjRing {
  using Stages = ConvXProjStages<kCols>;
  const CausalConv1dPrompt& conv;
  const LinearPromptShape& shape;
  char* data;
  std::uint64_t* full;
  int first_slab;

  __device__ char* Tile(int stage) const { return data + stage * Stages::kStageBytes + Stages::kBlockBytes; }
  __device__ char* W(int stage) const { return data + stage * Stages::kStageBytes + Stages::kWAt; }

  // No block lies before the first tile: nobody reads what is missing.
  __device__ int BlocksBefore() const { return blockIdx.x > 0 ? 1 : 0; }
  __device__ void FetchW(int step) const {
    const int stage = step % Stages::kStages, slab = first_slab + step;
    ArriveExpectBytes(full + stage,
                      Stages::kTileBytes + BlocksBefore() * Stages::kBlockBytes + Stages::kWBytes);
    constexpr int kBlocks = kCols / 8, kInTile = kBlocks < kTileBlocks ? kBlocks : kTileBlocks;
    BulkCopy(W(stage), shape.W(0, slab), kInTile * Stages::kBlockBytes, full + stage);
    if constexpr (kBlocks > kInTile) {
      BulkCopy(W(stage) + kInTile * Stages::kBlockBytes, shape.W(kInTile, slab),
               (kBlocks - kInTile) * Stages::kBlockBytes, full + stage);
    }
  }
  __device__ void FetchX(int step) const {
    const int stage = step % Stages::kStages;
    BulkCopy(Tile(stage) - BlocksBefore() * Stages::kBlockBytes, TileOf(conv.x, step) - BlocksBefore() * 512,
             Stages::kTileBytes + BlocksBefore() * Stages::kBlockBytes, full + stage);
  }
  __device__ void StoreX(int step) const {
    BulkStore(TileOf(conv.y, step), Tile(step % Stages::kStages), Stages::kTileBytes);
    CommitStores();
  }

 private:
  template <class T>
  __device__ T* TileOf(T* tiles, int step) const {
    return tiles + ((first_slab + step) * conv.token_blocks + blockIdx.x * (kTokenTile / 8)) * 512;
  }
};

// One warpgroup's 64 tokens of the tile.
template <int kCols>
__device__ __forceinline__ void MultiplySlab(const char* tile, const char* w, bool start,
                                             float (&sum)[kCols / 2]) {
  constexpr int kBlockBytes = ConvXProjStages<kCols>::kBlockBytes;
  const std::uint64_t x = MatrixDescriptor(tile + threadIdx.x / 128 * 8 * kBlockBytes, kBlockBytes);
  const std::uint64_t weight = MatrixDescriptor(w, kBlockBytes);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    Wgmma<kCols>(sum, x + k * (256 >> 4), weight + k * (256 >> 4), start && k == 0);
  }
  WgmmaCommit();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Grid: (token tiles, segments); 256 threads.
template <int kCols>
__global__ void __launch_bounds__(256, kCols <= 96 ? 2 : 1)
    ConvXProjPromptKernel(const CausalConv1dPrompt conv, const LinearPromptShape shape,
                          const StoreSegments epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kStages = ConvXProjStages<kCols>::kStages;
  extern __shared__ char shared[];
  __shared__ std::uint64_t full[kStages];
  __shared__ ConvStarts starts;
  char* const data = shared + (1024 - SharedAddress(shared) % 1024) % 1024;
  const int segment = blockIdx.y, slabs = shape.SegmentSlabs(segment);
  const ConvXProjRing<kCols> ring{conv, shape, data, full, segment * shape.segment_slabs};
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) InitBarrier(full + i, 1);
    FenceBarrierInit();
    for (int step = 0; step < min(kStages, slabs); ++step) ring.FetchW(step);
  }
  int channel = ring.first_slab * kSlabChannels + warp * 8 + lane % 4 * 2;
  ConvPair pair;
  pair.Load(conv, channel);
  WaitForPreviousKernel();
  if (threadIdx.x == 0) {
    for (int step = 0; step < min(kStages, slabs); ++step) ring.FetchX(step);
  }
  const std::int32_t first_token = blockIdx.x * kTokenTile;
  starts.Find(conv, first_token);
  const int first_start = starts.count - 1 - lane / 4;
  const std::uint32_t run_starts = starts.Run(lane / 4 * kConvRun);
  ConvStartTaps taps{};
  if (first_start >= 0) taps.Load(conv, starts.at[first_start], channel);

  float sum[kCols / 2];
  for (int step = 0; step < slabs; ++step, channel += kSlabChannels) {
    const int stage = step % kStages;
    // A slab ahead: they come from memory.
    ConvPair next_pair;
    next_pair.Load(conv, channel + kSlabChannels);
    ConvStartTaps next_taps{};
    if (first_start >= 0) next_taps.Load(conv, starts.at[first_start], channel + kSlabChannels);
    WaitBarrier(full + stage, step / kStages % 2);
    const ConvTile tile{reinterpret_cast<std::uint32_t*>(ring.Tile(stage)) + warp * 32 + lane % 4};
    std::uint32_t inputs[kConvWidth - 1 + kConvRun];
    const ConvRunPlace run(tile, lane / 4);
    run.Load(inputs);
    __syncwarp();  // no results before all have their inputs
    tile.ConvolveStarts(conv, starts, pair, taps, channel);
    run.Convolve(pair, run_starts, inputs);
    pair = next_pair;
    taps = next_taps;
    hopper::SharedFence();
    __syncthreads();
    // All products up to two slabs before this one are done, and so is the copy of that slab to x.
    if (threadIdx.x == 0) {
      if (step >= 2 && step - 2 + kStages < slabs) {
        WaitStoresRead<1>();
        ring.FetchW(step - 2 + kStages);
        ring.FetchX(step - 2 + kStages);
      }
      ring.StoreX(step);
    }
    MultiplySlab<kCols>(ring.Tile(stage), ring.W(stage), step == 0, sum);
    WgmmaWait<1>();
  }
  WgmmaWait<0>();
  AllowNextKernel();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const auto row = epilogue.Row(segment, first_token + warp * 16 + half * 8 + lane / 4);
    if (row.live) StoreRow<kCols / 8>(row, lane % 4 * 2, sum + half * 2);
  }
  if (threadIdx.x == 0) WaitStoresRead<0>();
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

// Whether a layer of this convolution and so many outputs of x_proj has the fused kernel.
inline bool ConvXProjIsFused(std::int32_t width, std::int64_t rows) {
  return width == kConvWidth && rows <= 192 && DeviceAttribute(cudaDevAttrComputeCapabilityMajor) == 9;
}

template <int kCols>
cudaError_t LaunchConvXProj(cudaStream_t stream, const CausalConv1dPrompt& conv,
                            const LinearPromptShape& x_proj, const StoreSegments& epilogue) {
  const LaunchShape launch{
      dim3(static_cast<unsigned>(x_proj.token_tiles), static_cast<unsigned>(x_proj.segments)), 256,
      ConvXProjStages<kCols>::kSharedBytes};
  return LaunchKernel(stream, ConvXProjPromptKernel<kCols>, launch, conv, x_proj, epilogue);
}

// Where ConvXProjIsFused.
inline cudaError_t LaunchConvXProj(cudaStream_t stream, const CausalConv1dPrompt& conv, const CoreMatrices& w,
                                   int segments, const StoreSegments& epilogue) {
  const LinearPromptShape x_proj = MakeLinearPromptShape(w, nullptr, conv.tokens, segments);
  if (w.rows <= 96) return LaunchConvXProj<96>(stream, conv, x_proj, epilogue);
  if (w.rows <= 128) return LaunchConvXProj<128>(stream, conv, x_proj, epilogue);
  if (w.rows <= 160) return LaunchConvXProj<160>(stream, conv, x_proj, epilogue);
  return LaunchConvXProj<192>(stream, conv, x_proj, epilogue);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_CONV_X_PROJ_PROMPT_CUH_

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

// A stage: the token block before the tile, the tile, the block past it, the weight's slab. Behind the stages
// lie the filters of a segment's channels.
template <int kCols>
struct ConvXProjStages {
  static constexpr int kBlockBytes = 8 * kSlabChannels * 2;
  static constexpr int kTileBytes = kTokenTile / 8 * kBlockBytes;
  static constexpr int kWAt = kTileBytes + 2 * kBlockBytes;
  static constexpr int kWBytes = kCols / 8 * kBlockBytes;
  static constexpr int kStageBytes = kWAt + kWBytes;
  // Where the weight is small two blocks share a multiprocessor.
  static constexpr int kStages = (kCols <= 96 ? 92 : 205) * 1024 / kStageBytes;
  static constexpr int kFiltersAt = kStages * kStageBytes;
  static_assert(kStages >= 3);
};

// The weights and biases of a segment's channels: (slabs, 4 weights then the bias, 64) fp32.
struct ConvFilters {
  static constexpr int kSlabFloats = (kConvWidth + 1) * kSlabChannels;
  static constexpr int kMaxSlabs = 14;  // two blocks of the narrowest weight still share a multiprocessor
  float* rows;

  // By all threads of the block; there when each has waited for its copies. Zeros past D.
  __device__ __forceinline__ void Fetch(const CausalConv1dPrompt& args, int first_slab, int slabs) const {
    for (int i = threadIdx.x; i < slabs * kSlabFloats; i += 256) {
      const int row = i / kSlabChannels % (kConvWidth + 1);
      const int channel = (first_slab + i / kSlabFloats) * kSlabChannels + i % kSlabChannels;
      const float* const from = row < kConvWidth ? args.weight + row * args.channels : args.bias;
      const bool exists = from != nullptr && channel < args.channels;
      AsyncCopy4OrZeros(rows + i, exists ? from + channel : args.weight, exists);
    }
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Two channels of a lane.
struct ConvPair {
  float2 weight[kConvWidth];
  float2 bias;
  std::uint32_t mask;  // of the results: zero past D

  __device__ __forceinline__ ConvPair(const ConvFilters& filters, int slab, int in_slab, int left) {
    const float2* const from =
        reinterpret_cast<const float2*>(filters.rows + slab * ConvFilters::kSlabFloats + in_slab);
#pragma unroll
    for (int k = 0; k < kConvWidth; ++k) weight[k] = from[k * (kSlabChannels / 2)];
    bias = from[kConvWidth * (kSlabChannels / 2)];
    mask = (left > 0 ? 0xffffu : 0u) | (left > 1 ? 0xffff0000u : 0u);
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

// The tokens of a tile at which a window reaches over the beginning of their chunk, into the slot. Not those
// of a chunk that begins with the tile, which is its head: its window takes the place of the tokens before
// the tile.
struct ConvStarts {
  struct Start {
    std::int32_t token, slot, position;
  };
  std::int32_t head;  // its slot, or kNoSlot
  int count;
  std::uint32_t mask[kTokenTile / 32 + 1];  // by token
  Start at[kTokenTile];

  // By all threads of the block, of which the first kTokenTile have a token each.
  __device__ __forceinline__ void Find(const CausalConv1dPrompt& args, std::int32_t first_token) {
    const int token = threadIdx.x, warp = token / 32;
    TokenPlace place{kNoSlot, 0, 0, 0};
    if (token < kTokenTile && first_token + token < args.tokens) place = args.places[first_token + token];
    const bool starts = place.slot != kNoSlot && place.position < kConvWidth - 1 && place.position != token;
    const std::uint32_t own = __ballot_sync(~0u, starts);
    if (token % 32 == 0 && warp <= kTokenTile / 32) mask[warp] = own;
    __syncthreads();
    int before = __popc(own & ((1u << token % 32) - 1));
    for (int i = 0; i < warp && i < kTokenTile / 32; ++i) before += __popc(mask[i]);
    if (starts) at[before] = {token, place.slot, place.position};
    if (token == 0) head = place.position == 0 ? place.slot : kNoSlot;
    if (token == kTokenTile) count = before;
    __syncthreads();
  }
  // Bit i: token first + i, of a run.
  __device__ __forceinline__ std::uint32_t Run(int first) const {
    return __funnelshift_r(mask[first / 32], mask[first / 32 + 1], first % 32);
  }
};

// Two channels of a row of a slot's window; zeros past D.
__device__ __forceinline__ std::uint32_t LoadWindowPair(const CausalConv1dPrompt& args, std::int32_t slot,
                                                        int row, std::uint32_t channel) {
  const std::uint32_t channels = args.channels;
  if (channel >= channels) return 0;
  const __nv_bfloat16* const at =
      args.window.Bf16At(slot) + static_cast<std::int64_t>(row) * channels + channel;
  if (channels % 2 == 0) return *reinterpret_cast<const std::uint32_t*>(at);  // windows lie by pairs then
  const std::uint32_t low = __bfloat16_as_ushort(at[0]);
  return channel + 1 < channels ? low | static_cast<std::uint32_t>(__bfloat16_as_ushort(at[1])) << 16 : low;
}

// The part of a start's window that lies in the slot, by input; of a lane's two channels. As loaded: whoever
// widened it here would wait for it here.
struct ConvStartTaps {
  std::uint32_t input[kConvWidth - 1];

  __device__ __forceinline__ void Load(const CausalConv1dPrompt& args, const ConvStarts::Start& start,
                                       std::uint32_t channel) {
#pragma unroll
    for (int k = 0; k + 1 < kConvWidth; ++k) {
      if (k + start.position + 1 < kConvWidth) {
        input[k] = LoadWindowPair(args, start.slot, k + start.position, channel);
      }
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

  // The window of the tile's head, where it has one: a row and a pair for each of the first lanes.
  static constexpr int kHeadLanes = (kConvWidth - 1) * 4;
  static __device__ __forceinline__ std::uint32_t HeadPair(const CausalConv1dPrompt& args,
                                                           const ConvStarts& starts, int channel) {
    const int lane = threadIdx.x % 32;
    if (starts.head == kNoSlot || lane >= kHeadLanes) return 0;
    return LoadWindowPair(args, starts.head, lane / 4, channel);
  }
  __device__ __forceinline__ void StoreHead(const ConvStarts& starts, std::uint32_t pair) const {
    const int lane = threadIdx.x % 32;
    if (starts.head == kNoSlot) return;
    if (lane < kHeadLanes) At(lane / 4 - (kConvWidth - 1)) = pair;
    __syncwarp();
  }

  // The results at a tile's starts, in place, eight at a time: lane / 4 chooses the start. From the last one
  // back, so that no result takes the place of an input. `taps` are those of the lane's first start.
  __device__ __forceinline__ void ConvolveStarts(const CausalConv1dPrompt& args, const ConvStarts& starts,
                                                 const ConvPair& pair, const ConvStartTaps& taps,
                                                 int channel) const {
    if (starts.count == 0) return;
    const int lane_start = static_cast<int>(threadIdx.x % 32 / 4);
    ConvolveStart(starts, starts.count - 1 - lane_start, pair, taps);
    for (int last = starts.count - 1 - 8; last >= 0; last -= 8) {
      const int index = last - lane_start;
      ConvStartTaps more{};
      if (index >= 0) more.Load(args, starts.at[index], channel);
      ConvolveStart(starts, index, pair, more);
    }
  }

 private:
  // Negative: none. By all lanes.
  __device__ __forceinline__ void ConvolveStart(const ConvStarts& starts, int index, const ConvPair& pair,
                                                const ConvStartTaps& taps) const {
    std::uint32_t result = 0;
    ConvStarts::Start start{};
    if (index >= 0) {
      start = starts.at[index];
      float2 input[kConvWidth];
#pragma unroll
      for (int k = 0; k < kConvWidth; ++k) {
        std::uint32_t both = At(start.token + k - (kConvWidth - 1));
        if (k + 1 < kConvWidth && k + start.position + 1 < kConvWidth) both = taps.input[k];
        input[k] = WidenPair(both);
      }
      result = pair.Result(input);
    }
    __syncwarp();
    if (index >= 0) At(start.token) = result;
    __syncwarp();
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
                                             float (&sum)[1][kCols / 2]) {
  constexpr int kBlockBytes = ConvXProjStages<kCols>::kBlockBytes;
  const std::uint64_t x = MatrixDescriptor(tile + threadIdx.x / 128 * 8 * kBlockBytes, kBlockBytes);
  const std::uint64_t weight = MatrixDescriptor(w, kBlockBytes);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    Wgmma<kCols>(sum[0], x + k * (256 >> 4), weight + k * (256 >> 4), start && k == 0);
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
  const bool feeds = threadIdx.x == 7 * 32;  // a warp that finds no starts
  if (feeds) {
    for (int i = 0; i < kStages; ++i) InitBarrier(full + i, 1);
    FenceBarrierInit();
    for (int step = 0; step < min(kStages, slabs); ++step) ring.FetchW(step);
  }
  const int in_slab = warp * 8 + lane % 4 * 2;
  int channel = ring.first_slab * kSlabChannels + in_slab;
  const ConvFilters filters{reinterpret_cast<float*>(data + ConvXProjStages<kCols>::kFiltersAt)};
  filters.Fetch(conv, ring.first_slab, slabs);
  // The other warps find the starts meanwhile. Places and windows are older than the kernel before, which had
  // seen all kernels before it end when it allowed this one.
  if (feeds) {
    WaitForPreviousKernel();
    for (int step = 0; step < min(kStages, slabs); ++step) ring.FetchX(step);
  }
  const std::int32_t first_token = blockIdx.x * kTokenTile;
  starts.Find(conv, first_token);
  const int first_start = starts.count - 1 - lane / 4;
  const std::uint32_t run_starts = starts.Run(lane / 4 * kConvRun);
  std::uint32_t head = ConvTile::HeadPair(conv, starts, channel);
  ConvStartTaps taps{};
  if (first_start >= 0) taps.Load(conv, starts.at[first_start], channel);
  WaitForPreviousKernel();
  AsyncCopyWaitAll();
  __syncthreads();

  float sum[1][kCols / 2];
  for (int step = 0; step < slabs; ++step, channel += kSlabChannels) {
    const int stage = step % kStages;
    const ConvPair pair(filters, step, in_slab, conv.channels - channel);
    // From memory, a slab ahead.
    const std::uint32_t next_head = ConvTile::HeadPair(conv, starts, channel + kSlabChannels);
    ConvStartTaps next_taps{};
    if (first_start >= 0) next_taps.Load(conv, starts.at[first_start], channel + kSlabChannels);
    WaitBarrier(full + stage, step / kStages % 2);
    const ConvTile tile{reinterpret_cast<std::uint32_t*>(ring.Tile(stage)) + warp * 32 + lane % 4};
    tile.StoreHead(starts, head);
    std::uint32_t inputs[kConvWidth - 1 + kConvRun];
    const ConvRunPlace run(tile, lane / 4);
    run.Load(inputs);
    __syncwarp();  // no results before all have their inputs
    tile.ConvolveStarts(conv, starts, pair, taps, channel);
    run.Convolve(pair, run_starts, inputs);
    head = next_head;
    taps = next_taps;
    hopper::SharedFence();
    __syncthreads();
    // All products up to two slabs before this one are done, and so is the copy of that slab to x.
    if (feeds) {
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
  SumStores<2, kCols / 8, StoreSegments> stores(epilogue, segment, first_token + warp * 16 + lane / 4,
                                                lane % 4 * 2);
  stores.Store(sum);
  if (feeds) WaitStoresRead<0>();
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

// Whether a layer of this convolution and this x_proj has the fused kernel.
inline bool ConvXProjIsFused(std::int32_t width, const CoreMatrices& x_proj, int segments) {
  return width == kConvWidth && x_proj.rows <= 192 && x_proj.slabs() <= segments * ConvFilters::kMaxSlabs &&
         DeviceAttribute(cudaDevAttrComputeCapabilityMajor) == 9;
}

template <int kCols>
cudaError_t LaunchConvXProj(cudaStream_t stream, const CausalConv1dPrompt& conv,
                            const LinearPromptShape& x_proj, const StoreSegments& epilogue) {
  const int filters = x_proj.segment_slabs * ConvFilters::kSlabFloats * static_cast<int>(sizeof(float));
  const LaunchShape launch{
      dim3(static_cast<unsigned>(x_proj.token_tiles), static_cast<unsigned>(x_proj.segments)), 256,
      1024 + ConvXProjStages<kCols>::kFiltersAt + filters};
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

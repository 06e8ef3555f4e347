// The state step of many rows (dt_proj, selective state space step, gate): bound by the copy of the states.
// The pairs (slab of 128 channels, row) are dealt evenly to blocks that stay. A block takes up to eight rows
// of a slab at a time. Eight warps have a row each: its states come through a ring in shared memory, a few at
// a time; a warp asks for as many of its next row as it has stored of this one, so as much stays in flight
// while it computes. Four warps work ahead: they bring dt_bc, x and gate of the rows, find delta (a matrix
// product over the rank) and send y off. So the eight meet nobody at a barrier, and all that is not states
// moves in whole lines: the L2's requests are what bounds a copy. The first states are under way before the
// previous kernel has ended: nothing else in a step touches them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STATE_STREAM_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STATE_STREAM_CUH_

#include <algorithm>
#include <cstdint>

#include "kernels/mamba_layer/launch.cuh"
#include "kernels/mamba_layer/state_step.cuh"

namespace mambad::kernels {

namespace state_stream {

inline constexpr int kN = 16;
inline constexpr int kRows = kCore;  // of a group, a warp each
inline constexpr int kDeltaWarps = 4;
inline constexpr int kDeltaThreads = kDeltaWarps * 32;
inline constexpr int kThreads = kRows * 32 + kDeltaThreads;
inline constexpr int kChannels = kTileRows;   // of a slab: a quad a lane
inline constexpr int kSlab = kN * kChannels;  // states of a row
inline constexpr int kPiece = 4;              // state indices that are copied together
inline constexpr int kPieces = kN / kPiece;
inline constexpr int kTiles = kChannels / 16 / kDeltaWarps;  // of 16 channels, a delta warp
inline constexpr int kDeltaStride = kChannels + 4;
inline constexpr int kBlock = kRows * kChannels;  // elements of x or gate, as they lie in StepLayout
inline constexpr int kChunk = kRows * kChunkK;

constexpr int StageBytes(int width) { return kRows * (kDeltaStride + width) * 4 + 2 * kBlock * 2; }
constexpr int SharedBytes(int rank, int rank_pad) {
  return kChannels * rank_pad * 2 + (2 + kRows) * kSlab * 4 + 2 * StageBytes(rank + 2 * kN);
}

// Up to eight rows of a slab, of one row block.
struct RowGroup {
  int slab;
  int row0;
  int rows;  // 0: the block has no more

  __device__ bool exists() const { return rows > 0; }
};

// The groups of this thread block. Its pairs (slab, row) are numbered slab by slab.
class RowGroups {
 public:
  __device__ RowGroups(int slabs, int rows)
      : rows_(rows),
        next_(static_cast<int>(static_cast<std::int64_t>(blockIdx.x) * slabs * rows / gridDim.x)),
        end_(static_cast<int>((blockIdx.x + 1ll) * slabs * rows / gridDim.x)) {}

  __device__ RowGroup Next() {
    const int slab = next_ / rows_;
    const int row0 = next_ - slab * rows_;
    const int rows = min(kCore - row0 % kCore, end_ - next_);
    next_ += rows;
    return {slab, row0, rows};
  }

 private:
  int rows_;
  int next_;
  int end_;
};

// What the delta warps hand to the row warps: two stages, of every other group.
struct Stage {
  __device__ Stage(unsigned char* stages, int width, int parity) {
    unsigned char* const stage = stages + parity * StageBytes(width);
    x = reinterpret_cast<std::uint16_t*>(stage);
    gate = x + kBlock;
    delta = reinterpret_cast<float*>(gate + kBlock);
    dt_bc = delta + kRows * kDeltaStride;
  }
  std::uint16_t* x;     // a row block; y takes its place
  std::uint16_t* gate;  // likewise
  float* delta;         // (kRows, stride)
  float* dt_bc;         // (rows, R + 2 N)
};

struct Barriers {
  std::uint64_t operands[2];  // have arrived
  std::uint64_t delta[2];     // is there
  std::uint64_t done[2];      // by the row warps
};

// delta of the kTiles * 16 channels of a delta warp and up to eight rows.
__device__ __forceinline__ void MultiplyDelta(const StateStepArgs& args, int delta_warp,
                                              const unsigned char* weights, int width, int rows,
                                              const float* dt_scales, const float (&dt_bias)[2 * kTiles],
                                              const Stage& stage) {
  const int lane = threadIdx.x % 32;
  float sum[kTiles][4] = {};
  const std::uint32_t a_lane = SharedAddress(weights) +
                               (2 * delta_warp * kTiles + lane / 8 % 2) * kRowBlockBytes + lane / 16 * 128 +
                               lane % 8 * 16;
  // A column past the rows takes the last one's dt: nobody reads its results.
  const float* const dt = stage.dt_bc + min(lane / 4, rows - 1) * width;
  const auto dt_pair = [&](int k) {  // bf16, 0 past the rank
    const float2 value = width % 2 == 0 ? *reinterpret_cast<const float2*>(dt + k) : float2{dt[k], dt[k + 1]};
    const __nv_bfloat162 pair =
        __floats2bfloat162_rn(k < args.rank ? value.x : 0.0f, k + 1 < args.rank ? value.y : 0.0f);
    return reinterpret_cast<const std::uint32_t&>(pair);
  };
#pragma unroll 2
  for (int k = 0; k < args.rank; k += 32) {
    std::uint32_t b[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i] = dt_pair(k + 8 * i + lane % 4 * 2);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      std::uint32_t a0[4], a1[4];
      const std::uint32_t a =
          a_lane + tile * 2 * kRowBlockBytes + k / kChunkK * (kChannels * kChunkK * 2) + k % kChunkK * 16;
      hopper::LoadMatrices(a, a0);
      hopper::LoadMatrices(a + 256, a1);
      hopper::Mma(sum[tile], a0, b[0], b[1]);
      hopper::Mma(sum[tile], a1, b[2], b[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i) {
    const int channel = (delta_warp * kTiles + i / 4) * 16 + lane / 4 + i % 4 / 2 * 8;
    const int row = lane % 4 * 2 + i % 2;
    if (row >= rows) continue;
    float product = sum[i / 4][i % 4];
    if (args.norm_eps >= 0.0f) product = __fmul_rn(product, dt_scales[row]);
    stage.delta[row * kDeltaStride + channel] = SoftplusApprox(__fadd_rn(product, dt_bias[i / 2]));
  }
}

// The weightless norms on a row's dt, B and C, by a warp: B and C are scaled in place, dt's scale is for the
// product.
__device__ __forceinline__ void NormRow(float* dt_bc, int rank, float eps, float* dt_scale) {
  const int lane = threadIdx.x % 32;
  const float scale = PlainScale(dt_bc, rank, eps);
  if (lane == 0) *dt_scale = scale;
#pragma unroll 1
  for (float* values = dt_bc + rank; values < dt_bc + rank + 2 * kN; values += kN) {
    const float own = PlainScale(values, kN, eps);
    __syncwarp();
    if (lane < kN) values[lane] = __fmul_rn(values[lane], own);
  }
}

// The delta warps' part. Named barrier 1 is theirs.
__device__ __forceinline__ void WorkAhead(const StateStepArgs& args, RowGroups groups, unsigned char* weights,
                                          float* decays, unsigned char* stages, Barriers& barriers) {
  __shared__ float dt_scales[kRows];
  const int width = args.rank + 2 * kN;
  const int weight_bytes = kChannels * args.rank_pad * 2;
  const int warp = threadIdx.x / 32 - kRows;
  const int lane = threadIdx.x % 32;
  const bool bulk_rows = width % kQuad == 0;
  const auto channels_of = [&](int slab) { return min(kChannels, args.channels - slab * kChannels); };
  const auto stage_of = [&](int parity) { return Stage(stages, width, parity); };

  // By the first of these warps.
  const auto fetch_weights = [&](int slab, int parity) {
    if (lane != 0) return;
    BulkCopy(weights, args.dt_proj + static_cast<std::int64_t>(slab) * kChannels * args.rank_pad,
             weight_bytes, &barriers.operands[parity]);
  };
  const auto fetch_decay = [&](int slab, int parity) {
    if (lane >= kN) return;
    BulkCopy(decays + slab % 2 * kSlab + lane * kChannels,
             args.decay_log2 + lane * args.channels + slab * kChannels, channels_of(slab) * 4,
             &barriers.operands[parity]);
  };
  const auto fetch_rows = [&](const RowGroup& group, bool new_slab, int parity) {
    const Stage stage = stage_of(parity);
    const float* const from = args.dt_bc + static_cast<std::int64_t>(group.row0) * width;
    if (!bulk_rows) {
      for (int i = lane; i < group.rows * width; i += 32) stage.dt_bc[i] = __ldcg(from + i);
      __syncwarp();
    }
    if (lane != 0) return;
    std::uint64_t* const barrier = &barriers.operands[parity];
    const int channels = channels_of(group.slab);
    ArriveExpectBytes(barrier, (new_slab ? weight_bytes + kN * channels * 4 : 0) +
                                   (bulk_rows ? group.rows * width * 4 : 0) + 2 * channels * kRows * 2);
    if (bulk_rows) BulkCopy(stage.dt_bc, from, group.rows * width * 4, barrier);
    for (int c = 0; c < channels; c += kChunkK) {
      const std::int64_t at = args.layout.Index(group.row0 / kCore * kCore, group.slab * kChannels + c);
      BulkCopy(stage.x + c * kRows, args.x + at, kChunk * 2, barrier);
      BulkCopy(stage.gate + c * kRows, args.gate + at, kChunk * 2, barrier);
    }
  };
  // y of a whole row block; the row warps store parts of one themselves.
  const auto store_rows = [&](const RowGroup& group, int parity) {
    if (lane != 0 || group.rows < kRows) return;
    for (int c = 0; c < channels_of(group.slab); c += kChunkK)
      hopper::BulkStore(args.y + args.layout.Index(group.row0, group.slab * kChannels + c),
                        stage_of(parity).x + c * kRows, kChunk * 2);
    hopper::BulkStoreCommit();
    hopper::BulkStoreWaitRead();
  };
  float dt_bias[2 * kTiles];  // of the channels whose delta this lane completes
  const auto load_bias = [&](int slab) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int channel = slab * kChannels + warp * kTiles * 16 + lane / 4 + i * 8;
      dt_bias[i] = channel < args.channels ? args.dt_bias[channel] : 0.0f;
    }
  };

  RowGroup before = {};
  RowGroup group = groups.Next();
  RowGroup next = groups.Next();
  if (warp == 0) {
    fetch_weights(group.slab, 0);
    fetch_decay(group.slab, 0);
    if (next.exists() && next.slab != group.slab) fetch_decay(next.slab, 1);
  }
  load_bias(group.slab);
  WaitForPreviousKernel();
  if (warp == 0) {
    fetch_rows(group, true, 0);
    if (next.exists()) fetch_rows(next, next.slab != group.slab, 1);
  }
#pragma unroll 1
  for (int step = 0; group.exists(); ++step) {
    const int parity = step % 2;
    const Stage stage = stage_of(parity);
    WaitBarrier(&barriers.operands[parity], step / 2 % 2);
    if (args.norm_eps >= 0.0f) {
      for (int row = warp; row < group.rows; row += kDeltaWarps)
        NormRow(stage.dt_bc + row * width, args.rank, args.norm_eps, &dt_scales[row]);
      hopper::SharedFence();  // a bulk copy will overwrite them
      hopper::NamedBarrier(1, kDeltaThreads);
    }
    MultiplyDelta(args, warp, weights, width, group.rows, dt_scales, dt_bias, stage);
    hopper::NamedBarrier(1, kDeltaThreads);
    const bool new_slab = next.exists() && next.slab != group.slab;
    const RowGroup after = groups.Next();
    if (warp == 0) {
      if (lane == 0) hopper::Arrive(&barriers.delta[parity]);
      if (new_slab) fetch_weights(next.slab, parity ^ 1);
      if (step > 0) {
        WaitBarrier(&barriers.done[parity ^ 1], (step - 1) / 2 % 2);
        store_rows(before, parity ^ 1);
        if (next.exists()) {
          if (new_slab) fetch_decay(next.slab, parity ^ 1);
          fetch_rows(next, new_slab, parity ^ 1);
        }
      }
      if (!next.exists()) {
        WaitBarrier(&barriers.done[parity], step / 2 % 2);
        store_rows(group, parity);
        hopper::BulkStoreWait();
      }
    }
    if (new_slab) load_bias(next.slab);
    before = group;
    group = next;
    next = after;
  }
}

// A row warp's part.
__device__ __forceinline__ void StepRows(const StateStepArgs& args, RowGroups groups, float* ring,
                                         const float* decays, unsigned char* stages, Barriers& barriers) {
  const int width = args.rank + 2 * kN;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  // This warp's row of a group; this lane's quad of channels.
  const auto channel_of = [&](const RowGroup& group) { return group.slab * kChannels + lane * kQuad; };
  const auto slot_of = [&](const RowGroup& group) {
    return warp < group.rows ? args.slot_index[group.row0 + warp] : kNoSlot;
  };
  const auto states_of = [&](const RowGroup& group, int slot) -> float* {  // null: nothing to do
    const int c = channel_of(group);
    return slot != kNoSlot && c < args.channels ? SlotData(args.state, slot) + c : nullptr;
  };
  float* const states = ring + warp * kSlab + lane * kQuad;
  const auto fetch_piece = [&](const float* from, int piece) {
    if (from != nullptr) {
#pragma unroll
      for (int n = piece * kPiece; n < (piece + 1) * kPiece; ++n)
        hopper::AsyncCopy16(states + n * kChannels, from + n * args.channels);
    }
    hopper::AsyncCopyCommit();
  };
  float4 skip = {};
  const auto load_skip = [&](const RowGroup& of) {
    if (channel_of(of) < args.channels) skip = Load4(args.skip + channel_of(of));
  };

  RowGroup group = groups.Next();
  float* at = states_of(group, slot_of(group));
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) fetch_piece(at, piece);
  RowGroup next = groups.Next();
  int next_slot = slot_of(next);
  load_skip(group);
  __syncthreads();  // the barriers are there

#pragma unroll 1
  for (int step = 0; group.exists(); ++step) {
    const int parity = step % 2;
    const Stage stage(stages, width, parity);
    float* const next_at = states_of(next, next_slot);
    const RowGroup after = groups.Next();
    next_slot = slot_of(after);
    WaitBarrier(&barriers.delta[parity], step / 2 % 2);
    const float* const b = stage.dt_bc + warp * width + args.rank;
    const float* const decay = decays + group.slab % 2 * kSlab + lane * kQuad;
    const int in_block = lane / 16 * kChunk + lane % 16 / 2 * (kCore * kCore) +
                         (group.row0 % kCore + warp) % kCore * kCore + lane % 2 * kQuad;
    const float4 d = Load4(stage.delta + warp * kDeltaStride + lane * kQuad);
    const float4 x = WidenBf16(*reinterpret_cast<const uint2*>(stage.x + in_block));
    const float4 dx = MultiplyEach(d, x);
    float4 sum[4] = {};
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      hopper::AsyncCopyWait<kPieces - 1>();
      if (at != nullptr) {
#pragma unroll
        for (int n = piece * kPiece; n < (piece + 1) * kPiece; ++n) {
          float4 h = Load4(states + n * kChannels);
          const float4 a = Load4(decay + n * kChannels);
          const float bn = b[n];
          const float cn = b[kN + n];
#pragma unroll
          for (int q = 0; q < kQuad; ++q) {
            At(h, q) =
                __fmaf_rn(Exp2Approx(__fmul_rn(At(d, q), At(a, q))), At(h, q), __fmul_rn(At(dx, q), bn));
            At(sum[n % 4], q) = __fmaf_rn(At(h, q), cn, At(sum[n % 4], q));
          }
          __stcs(reinterpret_cast<float4*>(at + n * args.channels), h);
        }
      }
      fetch_piece(next_at, piece);
    }
    if (at != nullptr) {
      float4 y = SumOverState(sum);
      const float4 gate = WidenBf16(*reinterpret_cast<const uint2*>(stage.gate + in_block));
#pragma unroll
      for (int q = 0; q < kQuad; ++q)
        At(y, q) = __fmul_rn(__fmaf_rn(At(skip, q), At(x, q), At(y, q)), At(gate, q));
      StoreBf16(group.rows == kRows ? stage.x + in_block
                                    : args.y + args.layout.Index(group.row0 + warp, channel_of(group)),
                y);
    }
    hopper::SharedFence();  // the delta warps send y off by a bulk store
    __syncwarp();
    if (lane == 0) hopper::Arrive(&barriers.done[parity]);
    if (next.exists() && next.slab != group.slab) load_skip(next);
    group = next;
    at = next_at;
    next = after;
  }
}

static __global__ void __launch_bounds__(kThreads) StreamStates(const StateStepArgs args) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Barriers barriers;
  unsigned char* const weights = shared;
  unsigned char* const stages = weights + kChannels * args.rank_pad * 2;
  float* const decays =  // of two slabs
      reinterpret_cast<float*>(stages + 2 * StageBytes(args.rank + 2 * kN));
  float* const ring = decays + 2 * kSlab;  // (kRows, N, kChannels)
  const RowGroups groups((args.channels + kChannels - 1) / kChannels, args.rows);
  AllowNextKernel();
  if (threadIdx.x < kRows * 32) {
    StepRows(args, groups, ring, decays, stages, barriers);
  } else {
    if (threadIdx.x == kRows * 32) {
      for (int parity = 0; parity < 2; ++parity) {
        InitBarrier(&barriers.operands[parity], 1);
        InitBarrier(&barriers.delta[parity], 1);
        InitBarrier(&barriers.done[parity], kRows);
      }
      hopper::BarrierInitFence();
    }
    __syncthreads();
    WorkAhead(args, groups, weights, decays, stages, barriers);
  }
#endif
}

}  // namespace state_stream

// Whether this kernel takes the step, being the faster one (BASELINE.md): dt_proj's tile is more than a chunk
// of k, which a block of StepStates reads anew for every eight rows.
inline bool StreamsStates(const StateStepArgs& args) {
  constexpr int kLeastRows = 32;
  constexpr int kStaticBytes = 128;
  return args.rows >= kLeastRows && args.rank_pad > kChunkK &&
         state_stream::SharedBytes(args.rank, args.rank_pad) + kStaticBytes <=
             DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

inline const char* LaunchStateStream(void* stream, const StateStepArgs& args) {
  const int pairs = (args.channels + state_stream::kChannels - 1) / state_stream::kChannels * args.rows;
  return Launch(stream, state_stream::StreamStates,
                {.grid = dim3(std::min(pairs, DeviceAttribute(cudaDevAttrMultiProcessorCount))),
                 .threads = state_stream::kThreads,
                 .shared_bytes = state_stream::SharedBytes(args.rank, args.rank_pad)},
                args);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STATE_STREAM_CUH_

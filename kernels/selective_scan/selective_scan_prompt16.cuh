// The selective scan over packed prompt chunks for N = 16, where nearly every model is. As the general kernel
// (selective_scan_prompt.cuh) with eight lanes a channel, but it reads the state out on the tensor cores,
// which spares the sum's shuffles and most loads of C, and it is pipelined by hand: a warp has few others to
// hide behind, so every step of eight tokens overlaps four stages of its neighbours.
//
//   load     global memory to registers, a tile of eight steps ahead and all at once: a scoreboard that newer
//            loads share would make the older ones wait for them
//   prepare  delta and delta * x to shared memory, where all lanes of the channel find them; two steps ahead
//   expand   exp(delta A) and (delta x) B of every token; one step ahead
//   recur    h, and its product with C
//   finish   skip, gate, bf16, store; one step behind
//
// A state fragment is the A operand of mma.m16n8k8 (tf32): lane 4 g + t holds row g, k = t and k = t + 4, and
// the same of row g + 8. Rows 2 c and 2 c + 1 are the two halves of channel c's state after one token, rows
// 2 c + 8 and 2 c + 9 after the next: half p has the states 4 p + t and 8 + 4 p + t. The B operand holds C of
// four tokens, column 2 i + p half p of token i; of the products each lane picks its own token's. y is the
// product of half 0 plus that of half 1. h and C enter with the 11 bits of tf32; everything else is fp32.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

#include <type_traits>

#include "kernels/selective_scan/selective_scan_prompt.cuh"

namespace mambad::kernels {

struct Scan16 {
  static constexpr int kLanes = 8;
  static constexpr int kChannels = 4;   // of a warp
  static constexpr int kMaxWarps = 10;  // of a block
  static constexpr int kStep = 8;       // tokens
  static constexpr int kSteps = 8;      // of a tile, which the loop unrolls: the ring of loads too
  static constexpr int kTile = kStep * kSteps;
  static constexpr int kStages = 3;
  static constexpr int kGroupFloats = 2 * 16 * 4;  // B and C of 4 tokens
  static constexpr int kStageFloats = kTile / 4 * kGroupFloats;
  static constexpr int kBufferFloats = 2 * 32;  // delta and delta * x of a step
  static constexpr int kWarpFloats = 2 * kBufferFloats;
  static constexpr int kStepElements =
      512;  // from a token to the one a step later, wherever the chunk begins

  static constexpr int SharedBytes(int warps) {
    return (kStages * kStageFloats + warps * kWarpFloats) * static_cast<int>(sizeof(float));
  }
};

// C of a group of four tokens: [token][n], so that the lanes of a fragment read 32 banks.
__host__ __device__ constexpr int Scan16CIndex(int token, int n) {
  return token * 16 + (n ^ (token & 2) * 4);
}

// d = a b.
__device__ __forceinline__ void MmaTf32(float (&d)[4], const float (&a)[4], const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

// Where a lane stands in its warp.
struct Scan16Lane {
  int half, channel, token;  // of a step: the token it prepares and finishes
  int state;                 // and state + 8
  int column_token;          // whose C its column is, of a group

  __device__ __forceinline__ explicit Scan16Lane(int lane) {
    half = lane / 4 % 2;
    channel = lane / 8;
    token = lane % 8;
    state = lane % 8;
    column_token = lane / 8;
  }
};

// What the expand stage makes of a step's tokens.
struct ScanStepTerms {
  float decay[8][2];
  float input[8][2];
  std::uint32_t c[2][2];  // its column's, of both groups
};

__device__ __forceinline__ float Part(const float4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// `bc` is the step's, `prepared` its buffer.
__device__ __forceinline__ void ExpandStep(const Scan16Lane& lane, const float (&decay_log2)[2],
                                           const float* bc, const float* prepared, ScanStepTerms& out) {
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    const float* at = bc + group * Scan16::kGroupFloats;
    const float4 b[2] = {reinterpret_cast<const float4*>(at)[lane.state],
                         reinterpret_cast<const float4*>(at)[lane.state + 8]};
    const float4 delta = *reinterpret_cast<const float4*>(prepared + lane.channel * 8 + group * 4);
    const float4 delta_x = *reinterpret_cast<const float4*>(prepared + 32 + lane.channel * 8 + group * 4);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      out.c[group][k] = __float_as_uint(at[64 + Scan16CIndex(lane.column_token, lane.state + 8 * k)]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        out.decay[group * 4 + i][k] = Exp2Approx(__fmul_rn(Part(delta, i), decay_log2[k]));
        out.input[group * 4 + i][k] = __fmul_rn(Part(delta_x, i), Part(b[k], i));
      }
    }
  }
}

// The products of a step's states, by pairs of tokens.
struct ScanProducts {
  float pair[4][4] = {};
};

// Advances h by the step's tokens, of which `count` exist.
template <bool kFull>
__device__ __forceinline__ void RecurStep(const ScanStepTerms& terms, int count, float (&h)[2],
                                          ScanProducts& out) {
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    float states[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = pair * 2 + i;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if (kFull || token < count) h[k] = __fmaf_rn(terms.decay[token][k], h[k], terms.input[token][k]);
        states[2 * k + i] = h[k];
      }
    }
    MmaTf32(out.pair[pair], states, terms.c[pair / 2]);
  }
}

// The sum over n of this lane's token. A lane's products are of columns 2 t and 2 t + 1: those of token t of
// each group. Even rows' lanes take the first group.
__device__ __forceinline__ float ReadoutStep(const Scan16Lane& lane, const ScanProducts& products) {
  float of_group[2];
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    float of_pair[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float(&d)[4] = products.pair[group * 2 + i];
      of_pair[i] = Select(lane.token & 1, Select(lane.half, d[3], d[2]), Select(lane.half, d[1], d[0]));
    }
    of_group[group] = Select(lane.token & 2, of_pair[1], of_pair[0]);
  }
  const float keep = Select(lane.half, of_group[1], of_group[0]);
  const float send = Select(lane.half, of_group[0], of_group[1]);
  return __fadd_rn(keep, __shfl_xor_sync(~0u, send, 4));
}

// A lane's channel in global memory: pointers to its first token of the current tile.
struct ScanColumns {
  const __nv_bfloat16* x;
  const __nv_bfloat16* z;
  const float* delta;
  __nv_bfloat16* y;
  bool live;    // below D
  bool stored;  // below D padded: zeros beyond D

  __device__ __forceinline__ ScanColumns(const SelectiveScanPrompt& args, int channel, std::uint32_t token) {
    const std::int64_t blocks = args.token_blocks;
    live = channel < args.channels;
    stored = channel < Slabs(args.channels) * kSlabChannels;
    const int d = live ? channel : args.channels - 1;
    const std::uint32_t at = TokenOffset(token);
    x = args.x + TileIndex(blocks, 0, d) + at;
    z = args.xz + TileIndex(blocks, 0, args.channels + d) + at;
    delta = args.delta + TileIndex(blocks, 0, d) + at;
    y = args.y + TileIndex(blocks, 0, stored ? channel : 0) + at;
  }
  __device__ __forceinline__ void NextTile() {
    constexpr int kElements = Scan16::kSteps * Scan16::kStepElements;
    x += kElements, z += kElements, delta += kElements, y += kElements;
  }
};

// Grid: (channels, chunks).
static __global__ void __launch_bounds__(Scan16::kMaxWarps * 32, 1)
    SelectiveScanPrompt16Kernel(const SelectiveScanPrompt args) {
  constexpr int kSteps = Scan16::kSteps;
  extern __shared__ __align__(16) float tiles[];
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
  const Scan16Lane lane(threadIdx.x % 32);
  const int channel = (blockIdx.x * warps + warp) * Scan16::kChannels + lane.channel;
  const int d = min(channel, args.channels - 1);
  float* prepared = tiles + Scan16::kStages * Scan16::kStageFloats + warp * Scan16::kWarpFloats;
  float decay_log2[2], h[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    decay_log2[k] = args.decay_log2[static_cast<std::int64_t>(lane.state + 8 * k) * args.channels + d];
  }
  const float skip = args.skip[d];
  WaitForPreviousKernel();
  AllowNextKernel();
  const std::int32_t slot = args.slot_index[blockIdx.y];
  const std::int64_t begin = args.offsets[blockIdx.y], end = args.offsets[blockIdx.y + 1];
  if (slot == kNoSlot || begin == end) return;
  const int length = static_cast<int>(end - begin);
  const int tile_count = (length + Scan16::kTile - 1) / Scan16::kTile;
  float* state =
      args.state.At(args.state_index[blockIdx.y]) + static_cast<std::int64_t>(lane.state) * args.channels + d;
#pragma unroll
  for (int k = 0; k < 2; ++k) h[k] = state[static_cast<std::int64_t>(8 * k) * args.channels];

  const float* bc = args.bc + BcStart(begin, blockIdx.y) / 4 * Scan16::kGroupFloats;
  const auto fetch = [&](int tile) {
    if (tile < tile_count) {
      const float* from = bc + static_cast<std::int64_t>(tile) * Scan16::kStageFloats;
      float* to = tiles + tile % Scan16::kStages * Scan16::kStageFloats;
      // Whole groups of 32 tokens only: no chunk's rows end elsewhere.
      const int floats =
          min(Scan16::kStageFloats, (length - tile * Scan16::kTile + 31) / 32 * 8 * Scan16::kGroupFloats);
#pragma unroll 1
      for (int i = threadIdx.x * 4; i < floats; i += blockDim.x * 4) CopyAsync16(to + i, from + i);
    }
    CommitCopies();
  };
  ScanColumns columns(args, channel, static_cast<std::uint32_t>(begin) + lane.token);
  ScanInput ring[kSteps] = {}, next_ring[kSteps] = {};  // of this tile, and of the next
  ScanInput last = {};                                  // of the previous tile's last step
  // A tile, the columns' one or the one after; `left` tokens exist from the columns' tile on.
  const auto load = [&](ScanInput(&to)[kSteps], int first_step, int left) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if ((first_step + step) * Scan16::kStep + lane.token < left) {
        const int at = (first_step + step) * Scan16::kStepElements;
        to[step] = {LoadBits(columns.x + at), LoadBits(columns.z + at), columns.delta[at]};
      }
    }
  };
  const auto buffer = [&](int step) { return prepared + step % 2 * Scan16::kBufferFloats; };
  const auto prepare = [&](int step) {
    const ScanInput& in = step < kSteps ? ring[step] : next_ring[step % kSteps];
    buffer(step)[lane.channel * 8 + lane.token] = in.delta;
    buffer(step)[32 + lane.channel * 8 + lane.token] = __fmul_rn(in.delta, WidenBf16(in.x));
  };
  // Of the step before `step` of the columns' tile.
  const auto finish = [&](int step, const ScanProducts& product, bool exists) {
    const ScanInput& in = step > 0 ? ring[step - 1] : last;
    const float sum = ReadoutStep(lane, product);
    const float out = __fmul_rn(__fmaf_rn(skip, WidenBf16(in.x), sum), FastSilu(WidenBf16(in.z)));
    if (exists && columns.stored) {
      columns.y[(step - 1) * Scan16::kStepElements] = __float2bfloat16_rn(columns.live ? out : 0.0f);
    }
  };

  fetch(0);
  fetch(1);
  load(ring, 0, length);
  prepare(0);
  prepare(1);
  WaitCopies<1>();
  __syncthreads();
  ScanStepTerms terms;
  ExpandStep(lane, decay_log2, tiles, buffer(0), terms);
  ScanProducts product;
#pragma unroll 1
  for (int tile = 0; tile < tile_count; ++tile) {
    const int left = length - tile * Scan16::kTile;
    const float* stage = tiles + tile % Scan16::kStages * Scan16::kStageFloats;
    const float* next_stage = tiles + (tile + 1) % Scan16::kStages * Scan16::kStageFloats;
    load(next_ring, kSteps, left);
    const auto run = [&]<bool kFull>(int step) {
      if (step + 1 == kSteps) {
        // The next tile is there for all, and so is the room of the one before this.
        WaitCopies<0>();
        __syncthreads();
        fetch(tile + 2);
      } else {
        __syncwarp();  // the next step is prepared, and the buffer of this one is free
      }
      ScanStepTerms next;
      ExpandStep(lane, decay_log2,
                 step + 1 < kSteps ? stage + (step + 1) * 2 * Scan16::kGroupFloats : next_stage,
                 buffer(step + 1), next);
      ScanProducts current;
      RecurStep<kFull>(terms, left - step * Scan16::kStep, h, current);
      finish(step, product, tile + step > 0);
      prepare(step + 2);
      product = current;
      terms = next;
    };
    static_assert(kSteps == 8);  // written out: a loop might put the ring in local memory
    if (left >= Scan16::kTile) {
      run.template operator()<true>(0);
      run.template operator()<true>(1);
      run.template operator()<true>(2);
      run.template operator()<true>(3);
      run.template operator()<true>(4);
      run.template operator()<true>(5);
      run.template operator()<true>(6);
      run.template operator()<true>(7);
      if (left == Scan16::kTile) finish(8, product, true);
    } else {
      const int steps = (left + Scan16::kStep - 1) / Scan16::kStep;
      const bool last_exists = (steps - 1) * Scan16::kStep + lane.token < left;
      const auto run_some = [&]<int kStep>(auto self, std::integral_constant<int, kStep>) {
        if constexpr (kStep < kSteps) {
          run.template operator()<false>(kStep);
          if (kStep + 1 == steps) {
            finish(kStep + 1, product, last_exists);
          } else {
            self(self, std::integral_constant<int, kStep + 1>());
          }
        }
      };
      run_some(run_some, std::integral_constant<int, 0>());
    }
    columns.NextTile();
    last = ring[kSteps - 1];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) ring[step] = next_ring[step];
  }
  if (!columns.live) return;
#pragma unroll
  for (int k = 0; k < 2; ++k) state[static_cast<std::int64_t>(8 * k) * args.channels] = h[k];
  if (lane.state == 0) ReplaceWindow(args, slot, begin, end, d);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

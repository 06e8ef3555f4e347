// The selective scan over packed prompt chunks for N = 16, where nearly every model is. As the general kernel
// (selective_scan_prompt.cuh), but it reads the state out on the tensor cores, which spares the sum's shuffles
// and most loads of C: shared memory delivers 128 bytes a cycle to a multiprocessor, one value for every lane
// of a warp, and that would otherwise be the bound.
//
// A state fragment is the A operand of mma.m16n8k8 (tf32; rows 8 to 15 unused): lane 4 g + t holds row g,
// k = t and k = t + 4. A row is a channel's half of eight states: half p has states 8 p + k.
//   kLanes = 8: a lane holds one half; rows 2 c and 2 c + 1 are channel c's; a warp has 4 channels
//   kLanes = 4: a lane holds both, in two fragments;  row g is channel g;    a warp has 8 channels
// C of a token stands alone in a column of the B operand, so that the products of several tokens' states
// collect in one accumulator. The sum of a half is one row of one such product and y is half 0 plus half 1:
// the same bits in both layouts. h and C enter with the 11 bits of tf32; everything else is fp32.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

#include "kernels/selective_scan/selective_scan_prompt.cuh"

namespace mambad::kernels {

inline constexpr int kScanStep = 8;   // tokens
inline constexpr int kScanTile = 32;  // tokens of B and C in a stage
inline constexpr int kScanStages = 4;
inline constexpr int kScanGroupFloats = 2 * 16 * 4;  // B and C of 4 tokens
inline constexpr int kScanStageFloats = kScanTile / 4 * kScanGroupFloats;

// C of a group of four tokens, [token][n], so that a fragment's lanes read 32 banks.
__host__ __device__ constexpr int Scan16CIndex(int token, int n) { return token * 16 + (n ^ (token & 2) * 2); }

template <int kLanes>
struct Scan16Layout {
  static constexpr int kHalves = 8 / kLanes;       // of a channel in a lane
  static constexpr int kChannels = 32 / kLanes;    // of a warp
  static constexpr int kTokens = kScanStep / kLanes;  // of a step that a lane prepares and finishes
  static constexpr int kWarpFloats = 2 * 2 * kChannels * kScanStep;  // delta and delta * x, twice
  static constexpr int SharedBytes(int warps) {
    return (kScanStages * kScanStageFloats + warps * kWarpFloats) * static_cast<int>(sizeof(float));
  }
};

// d += the two columns of states (rows 0 to 7) times C.
__device__ __forceinline__ void MmaTf32(float (&d)[4], float a0, float a1, std::uint32_t b0, std::uint32_t b1) {
  asm(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %6, %5, %6}, {%7, %8}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(0), "r"(b0), "r"(b1));
}

// B, delta and delta * x of four tokens, as a lane needs them.
template <int kHalves>
struct ScanGroup {
  float4 b[kHalves][2];
  float4 delta, delta_x;

  static __device__ __forceinline__ float Part(const float4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
  }
};

template <int kLanes>
struct Scan16Warp {
  using Layout = Scan16Layout<kLanes>;
  static constexpr int kHalves = Layout::kHalves;
  static constexpr int kColumnTokens = 4 * kHalves;  // whose C a fragment holds
  float h[kHalves][2];
  float decay[kHalves][2];
  std::uint32_t own_column[kColumnTokens];  // all ones where the token's column is this lane's, else 0
  int t;        // lane % 4
  int half;     // kLanes = 8: the half it holds
  int channel;  // of the warp
  int column_token, column_half;  // what its column of C is

  __device__ __forceinline__ explicit Scan16Warp(int lane) {
    const int g = lane / 4;
    t = lane % 4;
    half = kLanes == 8 ? g % 2 : 0;
    channel = kLanes == 8 ? g / 2 : g;
    column_token = kLanes == 8 ? g / 2 : g;
    column_half = kLanes == 8 ? g % 2 : 0;
#pragma unroll
    for (int i = 0; i < kColumnTokens; ++i) own_column[i] = i == column_token ? ~0u : 0u;
  }
  // The first of its tokens of a step.
  __device__ __forceinline__ int token() const { return kLanes == 8 ? half * 4 + t : 2 * t; }
  __device__ __forceinline__ int StateIndex(int piece, int i) const { return (half + piece) * 8 + t + 4 * i; }

  // `bc` is the group's, `prepared` the step's.
  __device__ __forceinline__ ScanGroup<kHalves> LoadGroup(const float* bc, const float* prepared, int group) const {
    ScanGroup<kHalves> in;
#pragma unroll
    for (int piece = 0; piece < kHalves; ++piece) {
#pragma unroll
      for (int i = 0; i < 2; ++i) in.b[piece][i] = reinterpret_cast<const float4*>(bc)[StateIndex(piece, i)];
    }
    const float* delta = prepared + channel * kScanStep + group * 4;
    in.delta = *reinterpret_cast<const float4*>(delta);
    in.delta_x = *reinterpret_cast<const float4*>(delta + Layout::kChannels * kScanStep);
    return in;
  }

  // Its column of C; `bc` is that of the group which the column's token is in.
  __device__ __forceinline__ void LoadColumn(const float* bc, std::uint32_t (&c)[kHalves][2]) const {
    const int token = column_token % 4;
#pragma unroll
    for (int piece = 0; piece < kHalves; ++piece) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        c[piece][i] = __float_as_uint(bc[64 + Scan16CIndex(token, (column_half + piece) * 8 + t + 4 * i)]);
      }
    }
  }

  // Advances by the group's tokens, of which `count` exist; their products go to d (of the group for
  // kLanes = 8, of each half for 4).
  template <bool kFull>
  __device__ __forceinline__ void Advance(const ScanGroup<kHalves>& in, int group, int count,
                                          const std::uint32_t (&c)[kHalves][2], float (&d)[2][4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!kFull && group * 4 + i >= count) continue;
      const std::uint32_t own = own_column[(group * 4 + i) % kColumnTokens];
#pragma unroll
      for (int piece = 0; piece < kHalves; ++piece) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float a = FastExp2(__fmul_rn(in.Part(in.delta, i), decay[piece][k]));
          h[piece][k] = __fmaf_rn(a, h[piece][k], __fmul_rn(in.Part(in.delta_x, i), in.Part(in.b[piece][k], i)));
        }
        MmaTf32(d[kLanes == 8 ? group : piece], h[piece][0], h[piece][1], c[piece][0] & own, c[piece][1] & own);
      }
    }
  }

  // y[i]: the sum over n of this lane's token i.
  __device__ __forceinline__ void Readout(const float (&d)[2][4], float (&y)[Layout::kTokens]) const {
    if constexpr (kLanes == 8) {
      // Column 2 i + p of row 2 c + p: token i. The even rows' lanes take the first four tokens.
      const float keep = Select(half, d[1][1], d[0][0]);
      const float send = Select(half, d[0][1], d[1][0]);
      y[0] = __fadd_rn(keep, __shfl_xor_sync(~0u, send, 4));
    } else {
#pragma unroll
      for (int i = 0; i < Layout::kTokens; ++i) y[i] = __fadd_rn(d[0][i], d[1][i]);
    }
  }
};

// What a lane reads and writes of its channel: pointers to its first token of the current tile. A step of eight
// tokens is always the same distance in token tiles, wherever the chunk begins.
struct ScanColumns {
  static constexpr int kStepElements = 512;
  const __nv_bfloat16* x;
  const __nv_bfloat16* z;
  const float* delta;
  __nv_bfloat16* y;
  bool live;    // below D
  bool stored;  // below D padded: zeros beyond D

  __device__ __forceinline__ ScanColumns(const SelectiveScanPrompt& args, int channel) {
    const std::int64_t blocks = args.token_blocks;
    live = channel < args.channels;
    stored = channel < Slabs(args.channels) * kSlabChannels;
    const int d = live ? channel : args.channels - 1;
    x = args.x + TileIndex(blocks, 0, d);
    z = args.xz + TileIndex(blocks, 0, args.channels + d);
    delta = args.delta + TileIndex(blocks, 0, d);
    y = args.y + TileIndex(blocks, 0, stored ? channel : 0);
  }
  __device__ __forceinline__ void Advance(std::int64_t elements) {
    x += elements, z += elements, delta += elements, y += elements;
  }
};

// Grid: (channels, chunks).
template <int kLanes>
__global__ void __launch_bounds__(kLanes == 4 ? 128 : 512, kLanes == 4 ? 4 : 1)
    SelectiveScanPrompt16Kernel(const SelectiveScanPrompt args) {
  using Layout = Scan16Layout<kLanes>;
  constexpr int kSteps = kScanTile / kScanStep;
  extern __shared__ __align__(16) float tiles[];
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
  Scan16Warp<kLanes> it(threadIdx.x % 32);
  const int channel = (blockIdx.x * warps + warp) * Layout::kChannels + it.channel;
  ScanColumns columns(args, channel);
  const int d = columns.live ? channel : args.channels - 1;
  float* prepared = tiles + kScanStages * kScanStageFloats + warp * Layout::kWarpFloats;
#pragma unroll
  for (int piece = 0; piece < Layout::kHalves; ++piece) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      it.decay[piece][i] = args.decay_log2[static_cast<std::int64_t>(it.StateIndex(piece, i)) * args.channels + d];
    }
  }
  const float skip = args.skip[d];
  WaitForPreviousKernel();
  AllowNextKernel();
  const std::int32_t slot = args.slot_index[blockIdx.y];
  const std::int64_t begin = args.offsets[blockIdx.y], end = args.offsets[blockIdx.y + 1];
  if (slot == kNoSlot || begin == end) return;
  const auto first_token = static_cast<std::uint32_t>(begin);
  const int length = static_cast<int>(end - begin);
  const int stages = (length + kScanTile - 1) / kScanTile;

  const auto state_at = [&](int n) { return args.state.At(slot) + static_cast<std::int64_t>(n) * args.channels + d; };
#pragma unroll
  for (int piece = 0; piece < Layout::kHalves; ++piece) {
#pragma unroll
    for (int i = 0; i < 2; ++i) it.h[piece][i] = *state_at(it.StateIndex(piece, i));
  }

  const float* bc = args.bc + BcStart(begin, blockIdx.y) / 4 * kScanGroupFloats + threadIdx.x * 4;
  const auto fetch = [&](int tile) {
    if (tile < stages) {
      const float* from = bc + static_cast<std::int64_t>(tile) * kScanStageFloats;
      float* to = tiles + tile % kScanStages * kScanStageFloats + threadIdx.x * 4;
#pragma unroll 1
      for (int i = threadIdx.x * 4; i < kScanStageFloats; i += blockDim.x * 4) {
        CopyAsync16(to, from);
        to += blockDim.x * 4, from += blockDim.x * 4;
      }
    }
    CommitCopies();
  };
  columns.Advance(TokenOffset(first_token + it.token()));
  // A lane's two tokens (kLanes = 4) may lie in two token blocks.
  const int second = static_cast<int>(TokenOffset(first_token + it.token() + 1) - TokenOffset(first_token + it.token()));
  ScanInput in[kSteps][Layout::kTokens] = {};  // of each step of a tile; refilled as soon as it is used up
  // From the columns' tile on, of which `left` tokens exist.
  const auto load = [&](int from_step, int step, int left) {
#pragma unroll
    for (int i = 0; i < Layout::kTokens; ++i) {
      if (from_step * kScanStep + it.token() + i < left) {
        const int at = from_step * ScanColumns::kStepElements + i * second;
        in[step][i] = {LoadBits(columns.x + at), LoadBits(columns.z + at), columns.delta[at]};
      }
    }
  };
  const auto buffer = [&](int step) { return prepared + step % 2 * (2 * Layout::kChannels * kScanStep); };
  // Into the buffer of the step; all lanes of the warp may read it after __syncwarp.
  const auto prepare = [&](const ScanInput (&from)[Layout::kTokens], int step) {
    float* delta = buffer(step) + it.channel * kScanStep + it.token();
    float* delta_x = delta + Layout::kChannels * kScanStep;
#pragma unroll
    for (int i = 0; i < Layout::kTokens; ++i) {
      delta[i] = from[i].delta;
      delta_x[i] = __fmul_rn(from[i].delta, WidenBf16(from[i].x));
    }
  };
#pragma unroll
  for (int i = 0; i < kScanStages - 1; ++i) fetch(i);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) load(step, step, length);
  prepare(in[0], 0);
#pragma unroll 1
  for (int tile = 0; tile < stages; ++tile) {
    WaitCopies<kScanStages - 2>();
    __syncthreads();  // the tile is there for all, and the stage before it is free
    fetch(tile + kScanStages - 1);
    const float* tile_bc = tiles + tile % kScanStages * kScanStageFloats;
    const int left = length - tile * kScanTile;
    ScanGroup<Layout::kHalves> group0 = it.LoadGroup(tile_bc, buffer(0), 0);
    const auto run_step = [&]<bool kFull>(int step) {
      const float* bc = tile_bc + step * 2 * kScanGroupFloats;
      const int count = left - step * kScanStep;
      prepare(in[(step + 1) % kSteps], step + 1);  // the next step's
      const ScanGroup<Layout::kHalves> group1 = it.LoadGroup(bc + kScanGroupFloats, buffer(step), 1);
      float d[2][4] = {};
      std::uint32_t c[Layout::kHalves][2];
      it.LoadColumn(kLanes == 8 ? bc : bc + it.column_token / 4 * kScanGroupFloats, c);
      it.template Advance<kFull>(group0, 0, count, c, d);
      if (kLanes == 8) it.LoadColumn(bc + kScanGroupFloats, c);
      it.template Advance<kFull>(group1, 1, count, c, d);
      float y[Layout::kTokens];
      it.Readout(d, y);
      __syncwarp();
      if (step + 1 < kSteps) group0 = it.LoadGroup(bc + 2 * kScanGroupFloats, buffer(step + 1), 0);
#pragma unroll
      for (int i = 0; i < Layout::kTokens; ++i) {
        const float gate = FastSilu(WidenBf16(in[step][i].z));
        const float out = __fmul_rn(__fmaf_rn(skip, WidenBf16(in[step][i].x), y[i]), gate);
        if ((kFull || it.token() + i < count) && columns.stored) {
          columns.y[step * ScanColumns::kStepElements + i * second] = __float2bfloat16_rn(columns.live ? out : 0.0f);
        }
      }
      load(kSteps + step, step, left);
    };
    static_assert(kSteps == 4);  // written out: a loop would put `in` in local memory
    if (left >= kScanTile) {
      run_step.template operator()<true>(0);
      run_step.template operator()<true>(1);
      run_step.template operator()<true>(2);
      run_step.template operator()<true>(3);
    } else {
      run_step.template operator()<false>(0);
      if (left > kScanStep) run_step.template operator()<false>(1);
      if (left > 2 * kScanStep) run_step.template operator()<false>(2);
      if (left > 3 * kScanStep) run_step.template operator()<false>(3);
    }
    columns.Advance(kSteps * ScanColumns::kStepElements);
  }
  if (!columns.live) return;
#pragma unroll
  for (int piece = 0; piece < Layout::kHalves; ++piece) {
#pragma unroll
    for (int i = 0; i < 2; ++i) *state_at(it.StateIndex(piece, i)) = it.h[piece][i];
  }
  if (it.t == 0 && it.half == 0) ReplaceWindow(args, slot, begin, end, d);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

// The selective scan over packed prompt chunks for N = 16, where nearly every model is, on Hopper. Its bound
// is the special function unit, one exponential for each state and token; the rest is arranged to keep that
// unit fed:
//
//   * A lane holds one state of one channel, a warp two channels: small enough that the scheduler partitions
//     of all multiprocessors get nearly equal shares of a model's channels.
//   * A step is 16 tokens, so that a warp's lanes are also the (channel, token) pairs of a step: a lane
//   loads,
//     prepares and finishes one of them.
//   * A number in shared memory that many lanes need would cost each of them a load, and loads bring 32
//   numbers
//     a cycle to a multiprocessor, however many are the same: four for each state and token are twice what
//     the exponentials leave time for. So the tensor cores, idle otherwise, spread delta, delta * x, B and C
//     over the lanes, and add the products C h up: each of these is a product with a matrix of ones and
//     zeros.
//   * Nothing waits for what was just begun: x, z and delta are loaded two steps before they are prepared,
//     delta and delta * x go to shared memory a step before they are spread, and a step's sums are gated and
//     stored during the next one. B and C come by bulk copies, two tiles ahead.
//
// Lane 4 g + t has, of the operands and the result of mma.m16n8k8,
//   A       (row g, k = t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
//   B       (k = t, column g), (t + 4, g)
//   result  (row g, column 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
// and holds state n = lane mod 16 = 4 (g mod 4) + t of channel g / 4.
//   * delta of eight tokens: A (k 4) has token t in its first rows and 4 + t in the others, the same for a
//     channel's four g; B picks the tokens 2 i and 2 i + 1. Twice, for the two parts that tf32 cuts delta
//     into.
//   * B and C of four tokens: the B operand has, at k = n / 4 and column 2 (n mod 4) + i, token i for k < 4
//   and
//     2 + i after; A is the identity for each channel's rows, on k < 4 in the first rows and k >= 4 in the
//     others.
//   * p = C h of four tokens is an A operand: a row is four states of a channel, in two halves by two k
//   halves.
//     The B operand of the i-th four has ones in column 2 i for k < 4 and in column 2 i + 1 for k >= 4, so
//     that the four products of a step add up, each in columns of its own. What is left is a sum over the
//     four lanes of the same channel and t.
// delta * x, B, C and p enter in tf32; everything else is fp32. (A NaN in one of them spoils the other tokens
// of its step, of its own chunk alone.)
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

#include "kernels/selective_scan/selective_scan_prompt.cuh"

namespace mambad::kernels {

struct Scan16 {
  static constexpr int kStates = 16;
  static constexpr int kWarps = 4;     // of a block
  static constexpr int kChannels = 8;  // of a block: a channel block of the tiles
  static constexpr int kStep = 16;     // tokens
  static constexpr int kSteps = 4;     // of a tile, which the loop unrolls: the ring of loads too
  static constexpr int kTile = kStep * kSteps;
  static constexpr int kStages = 3;
  static constexpr int kBlockFloats = 2 * kStates * 8;  // B and C of 8 tokens
  static constexpr int kStepFloats = kStep / 8 * kBlockFloats;
  static constexpr int kStageFloats = kTile / 8 * kBlockFloats;
  static constexpr int kBufferFloats = 2 * 32;  // delta and delta * x of a warp's step
  static constexpr int kStepElements = 1024;  // from a token to the one a step later, wherever a chunk begins
  static constexpr int kSharedBytes =
      (kStages * kStageFloats + kWarps * 2 * kBufferFloats) * static_cast<int>(sizeof(float));
};

// Where B and C lie in global memory, in blocks of eight tokens: as the B operand takes them, four floats to
// a lane. C follows 128 floats after B.
constexpr __host__ __device__ int Scan16BcIndex(int token, int n) {
  return ((n % 4 * 2 + token % 2) * 4 + n / 4) * 4 + token / 4 * 2 + token / 2 % 2;
}

__device__ __forceinline__ float RoundToTf32(float v) {
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return __uint_as_float(bits);
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// d += a b, of tf32: 16 x 8 and 16 x 4 times 8 columns.
__device__ __forceinline__ void MmaTf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
__device__ __forceinline__ void MmaTf32(float (&d)[4], const float (&a)[2], float b) {
  asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(b)));
}
__device__ __forceinline__ float CutToTf32(float v) {
  return __uint_as_float(__float_as_uint(v) & 0xffffe000u);
}

// Where a lane stands in its warp. It loads, prepares and finishes the token whose sum it is left with.
struct Scan16Lane {
  int channel, state, token;

  __device__ __forceinline__ explicit Scan16Lane(int lane)
      : channel(lane / 16), state(lane % 16), token(lane % 4 * 4 + lane / 4 % 4) {}
};

// B and C, tile by tile, for the whole block.
struct Scan16Ring {
  float* stages;
  std::uint64_t* full;
  std::uint64_t* empty;

  __device__ __forceinline__ void Init() const {
    for (int i = 0; i < Scan16::kStages; ++i) {
      InitBarrier(full + i, 1);
      InitBarrier(empty + i, Scan16::kWarps);
    }
    FenceBarrierInit();
  }
  // One thread. `tokens` exist from the tile on; no chunk's rows end but at a multiple of kBcAlign.
  __device__ __forceinline__ void Fetch(int tile, const float* bc, int tokens) const {
    const int stage = tile % Scan16::kStages, round = tile / Scan16::kStages;
    if (round > 0) WaitBarrier(empty + stage, (round - 1) % 2);
    const int rows = min(Scan16::kTile, (tokens + kBcAlign - 1) / kBcAlign * kBcAlign);
    const int bytes = rows / 8 * Scan16::kBlockFloats * static_cast<int>(sizeof(float));
    ArriveExpectBytes(full + stage, bytes);
    BulkCopy(stages + stage * Scan16::kStageFloats,
             bc + static_cast<std::int64_t>(tile) * Scan16::kStageFloats, bytes, full + stage);
  }
  __device__ __forceinline__ float* Wait(int tile) const {
    const int stage = tile % Scan16::kStages;
    WaitBarrier(full + stage, tile / Scan16::kStages % 2);
    return stages + stage * Scan16::kStageFloats;
  }
  __device__ __forceinline__ void Release(int tile) const { Arrive(empty + tile % Scan16::kStages); }
};

// A lane's token channel in global memory: pointers to its token of the current tile's first step.
struct Scan16Columns {
  const __nv_bfloat16* x;
  const __nv_bfloat16* z;
  const float* delta;
  __nv_bfloat16* y;

  __device__ __forceinline__ Scan16Columns(const SelectiveScanPrompt& args, int channel, int d,
                                           std::uint32_t token) {
    const std::int64_t blocks = args.token_blocks;
    const std::uint32_t at = TokenOffset(token);
    x = args.x + TileIndex(blocks, 0, d) + at;
    z = args.xz + TileIndex(blocks, 0, args.channels + d) + at;
    delta = args.delta + TileIndex(blocks, 0, d) + at;
    y = args.y + TileIndex(blocks, 0, channel) + at;
  }
  __device__ __forceinline__ void NextTile() {
    constexpr int kElements = Scan16::kSteps * Scan16::kStepElements;
    x += kElements, z += kElements, delta += kElements, y += kElements;
  }
};

// The constant operands of the products; `lane` = 4 g + t. `zero` is 0, unknown to the compiler, which would
// otherwise put the operands together again for every product.
struct Scan16Constants {
  float pick[2];      // B operands: k = 2 i + (column mod 2)
  float diagonal[4];  // A operand: k = row mod 4 for the first rows, 4 more for the second
  float ones[4][2];   // B operands: column 2 i of k < 4, column 2 i + 1 of k >= 4

  __device__ __forceinline__ Scan16Constants(int lane, const float (&zero)[2]) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) pick[i] = t == 2 * i + g % 2 ? 1.0f : 0.0f;
    diagonal[0] = g % 4 == t ? 1.0f : 0.0f;
    diagonal[1] = zero[0], diagonal[2] = zero[1];
    diagonal[3] = __fadd_rn(diagonal[0], zero[0]);
#pragma unroll
    for (int i = 0; i < 8; ++i) ones[i / 2][i % 2] = g == i ? 1.0f : 0.0f;
  }
};

// The state of one lane, and one step of it.
struct Scan16State {
  Scan16Constants constants;
  float decay_log2;
  float h = 0.0f;

  // `bc` is the step's, `prepared` its buffer, both at this lane's place.
  __device__ __forceinline__ void Step(const float* bc, const float* prepared, float (&sums)[4]) {
    const float4 delta4 = *reinterpret_cast<const float4*>(prepared);
    const float4 delta_x4 = *reinterpret_cast<const float4*>(prepared + 32);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] = 0.0f;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float delta[4][2] = {}, delta_x[4][2] = {};
      const float own[2] = {half == 0 ? delta4.x : delta4.z, half == 0 ? delta4.y : delta4.w};
      const float rest[2] = {__fsub_rn(own[0], CutToTf32(own[0])), __fsub_rn(own[1], CutToTf32(own[1]))};
      Spread(own, delta);  // in two parts, each exact in tf32
      Spread(rest, delta);
      Spread({half == 0 ? delta_x4.x : delta_x4.z, half == 0 ? delta_x4.y : delta_x4.w}, delta_x);
      const float4 b4 = *reinterpret_cast<const float4*>(bc + half * Scan16::kBlockFloats);
      const float4 c4 = *reinterpret_cast<const float4*>(bc + half * Scan16::kBlockFloats + 128);
#pragma unroll
      for (int group = 0; group < 2; ++group) {
        float b[4] = {}, c[4] = {}, p[4];
        MmaTf32(b, constants.diagonal, {group == 0 ? b4.x : b4.z, group == 0 ? b4.y : b4.w});
        MmaTf32(c, constants.diagonal, {group == 0 ? c4.x : c4.z, group == 0 ? c4.y : c4.w});
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int pair = group * 2 + i / 2;
          const float decay = Exp2Approx(__fmul_rn(delta[pair][i % 2], decay_log2));
          h = __fmaf_rn(decay, h, __fmul_rn(delta_x[pair][i % 2], b[i]));
          p[i] = __fmul_rn(c[i], h);
        }
        MmaTf32(sums, p, constants.ones[half * 2 + group]);
      }
    }
  }

 private:
  // Adds tf32 numbers of tokens t and 4 + t of eight to those of all eight, by pairs, in every lane.
  __device__ __forceinline__ void Spread(const float (&own)[2], float (&out)[4][2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float d[4] = {out[i][0], out[i][1], out[i + 2][0], out[i + 2][1]};
      MmaTf32(d, own, constants.pick[i]);
      out[i][0] = d[0], out[i][1] = d[1], out[i + 2][0] = d[2], out[i + 2][1] = d[3];
    }
  }
};

// The sum over n of this lane's token. Sums 0 to 3 are those of tokens 0, 2, 1 and 3 of four.
__device__ __forceinline__ float Scan16Readout(int lane, const float (&sums)[4]) {
  // The tensor cores cut p to tf32 instead of rounding it; this puts the mean back.
  constexpr float kCutMean = 1.0f + 0.7f / 2048;
  float of_pair[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float keep = Select(lane & 8, sums[2 * i + 1], sums[2 * i]);
    const float send = Select(lane & 8, sums[2 * i], sums[2 * i + 1]);
    of_pair[i] = __fadd_rn(keep, __shfl_xor_sync(~0u, send, 8));
  }
  const float keep = Select(lane & 4, of_pair[1], of_pair[0]),
              send = Select(lane & 4, of_pair[0], of_pair[1]);
  return __fmul_rn(__fadd_rn(keep, __shfl_xor_sync(~0u, send, 4)), kCutMean);
}

// A chunk's last tokens may not fill their step. Those past the end get what leaves a state as it is: zeros
// (the rows of their B and C were never written).
__device__ __forceinline__ void ClearPastEnd(float* bc, float* prepared, int tokens) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll 1
  for (int token = tokens; token < Scan16::kStep; ++token) {
    bc[token / 8 * Scan16::kBlockFloats + lane / 16 * 128 + Scan16BcIndex(token % 8, lane % 16)] = 0.0f;
    if (lane % 16 == token % 4 * 4 + token / 4) prepared[lane] = prepared[lane + 32] = 0.0f;
  }
}

#endif  // __CUDA_ARCH__ >= 900

// Grid: (channel blocks, chunks).
static __global__ void __launch_bounds__(Scan16::kWarps * 32, 5)
    SelectiveScanPrompt16Kernel(const SelectiveScanPrompt args) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int kStep = Scan16::kStep, kSteps = Scan16::kSteps;
  extern __shared__ __align__(16) float tiles[];
  __shared__ std::uint64_t barriers[2 * Scan16::kStages];
  const Scan16Ring ring{tiles, barriers, barriers + Scan16::kStages};
  const int warp = threadIdx.x / 32;
  const Scan16Lane lane(threadIdx.x % 32);
  const int channel = blockIdx.x * Scan16::kChannels + warp * 2 + lane.channel;
  const bool live = channel < args.channels;
  const int d = live ? channel : args.channels - 1;
  const float zero[2] = {__int_as_float(args.width >> 31), __int_as_float(args.state_size >> 31)};
  Scan16State state{Scan16Constants(threadIdx.x % 32, zero),
                    args.decay_log2[static_cast<std::int64_t>(lane.state) * args.channels + d]};
  const float skip = args.skip[d];
  if (threadIdx.x == 0) ring.Init();
  __syncthreads();
  WaitForPreviousKernel();
  AllowNextKernel();
  const std::int32_t slot = args.slot_index[blockIdx.y];
  const std::int64_t begin = args.offsets[blockIdx.y], end = args.offsets[blockIdx.y + 1];
  if (slot == kNoSlot || begin == end) return;
  const int length = static_cast<int>(end - begin);
  const int tile_count = (length + Scan16::kTile - 1) / Scan16::kTile;
  const float* bc = args.bc + BcStart(begin, blockIdx.y) / 8 * Scan16::kBlockFloats;
  if (threadIdx.x == 0) {
    ring.Fetch(0, bc, length);
    if (tile_count > 1) ring.Fetch(1, bc, length - Scan16::kTile);
  }
  float* const kept = args.state.At(slot) + static_cast<std::int64_t>(lane.state) * args.channels + d;
  if (live) state.h = *kept;

  Scan16Columns columns(args, channel, d, static_cast<std::uint32_t>(begin) + lane.token);
  float* const prepared = tiles + Scan16::kStages * Scan16::kStageFloats + warp * 2 * Scan16::kBufferFloats;
  float* const prepare_at = prepared + threadIdx.x % 32;
  const float* const prepared_at = prepared + lane.channel * kStep + threadIdx.x % 4 * 4;
  // Lanes of the padding beyond D load nothing: zeros give zeros.
  const int load_end = live ? length - lane.token : 0;
  ScanInput in[kSteps] = {};
  float sums[2][4] = {};
  // Steps count from the tile's first, `left` tokens from there on; constants, or `in` would not be
  // registers.
  const auto load = [&]<int kAt>(int tile) {
    ScanInput& to = in[kAt % kSteps];
    if (tile * Scan16::kTile + kAt * kStep < load_end) {
      constexpr int kElements = kAt * Scan16::kStepElements;
      to = {LoadBits(columns.x + kElements), LoadBits(columns.z + kElements), columns.delta[kElements]};
    }
  };
  const auto prepare = [&]<int kAt>() {
    const ScanInput& from = in[kAt % kSteps];
    float* const to = prepare_at + kAt % 2 * Scan16::kBufferFloats;
    to[0] = from.delta;
    to[32] = RoundToTf32(__fmul_rn(from.delta, WidenBf16(from.x)));
  };
  const auto finish = [&]<int kAt>(bool exists) {
    const ScanInput& of = in[(kAt + kSteps) % kSteps];
    const float sum = Scan16Readout(threadIdx.x % 32, sums[(kAt + kSteps) % 2]);
    const float y = __fmul_rn(__fmaf_rn(skip, WidenBf16(of.x), sum), SiluApprox(WidenBf16(of.z)));
    if (exists) columns.y[kAt * Scan16::kStepElements] = __float2bfloat16_rn(y);
  };
  // False after the chunk's last step.
  const auto run = [&]<int kAt>(int tile, float* stage) {
    const int left = length - tile * Scan16::kTile - kAt * kStep;
    float* const bc = stage + kAt * Scan16::kStepFloats;
    constexpr int kBuffer = kAt % 2 * Scan16::kBufferFloats;
    if (left < kStep) ClearPastEnd(bc, prepared + kBuffer, left);
    __syncwarp();  // this step is prepared, and the buffer of the one before is free
    state.Step(bc + threadIdx.x % 32 * 4, prepared_at + kBuffer, sums[kAt % 2]);
    finish.template operator()<kAt - 1>(tile + kAt > 0);
    if (left <= kStep) {
      finish.template operator()<kAt>(lane.token < left);
      return false;
    }
    prepare.template operator()<kAt + 1>();
    load.template operator()<kAt + 3>(tile);
    return true;
  };
  load.template operator()<0>(0);
  load.template operator()<1>(0);
  load.template operator()<2>(0);
  prepare.template operator()<0>();
  for (int tile = 0;; ++tile, columns.NextTile()) {
    float* const stage = ring.Wait(tile);
    if (!run.template operator()<0>(tile, stage)) break;
    if (!run.template operator()<1>(tile, stage)) break;
    if (!run.template operator()<2>(tile, stage)) break;
    if (threadIdx.x == 0 && tile + 2 < tile_count)
      ring.Fetch(tile + 2, bc, length - (tile + 2) * Scan16::kTile);
    if (!run.template operator()<3>(tile, stage)) break;
    if (threadIdx.x % 32 == 0) ring.Release(tile);
  }
  if (!live) return;
  *kept = __fadd_rn(state.h, 0.0f);  // tokens past an end may have made +0 of -0: always +0
  if (lane.token == 0) ReplaceWindow(args, slot, begin, end, d);
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

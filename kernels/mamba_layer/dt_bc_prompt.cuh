// The second stage of x_proj: adds the K segments in order, applies FalconMamba's weightless norms, and lays
// dt out as bf16 token tiles (the input of dt_proj) and B and C as the scan reads them:
//   [4 rows][B then C][padded N][4] fp32, rows as TokenPlace::bc_row counts them.
// or, for the scan of N = 16, as its tensor core products take them: rounded to tf32,
//   [16 rows][B then C][256] by Scan16::BIndex and CIndex, rows by Scan16::BcRow.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_DT_BC_PROMPT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_DT_BC_PROMPT_CUH_

#include "kernels/rms_norm/token_norm.cuh"
#include "kernels/selective_scan/selective_scan_prompt16.cuh"

namespace mambad::kernels {

struct DtBcPrompt {
  static constexpr int kMaxSegments = 8;
  static constexpr int kTokens = Scan16::kStep;  // of a block, a warp each
  static constexpr int kThreads = kTokens * 32;

  const float* segments;  // (segments, token blocks, blocks, 8 tokens, 8)
  const TokenPlace* places;
  __nv_bfloat16* dt;  // token tiles
  float* bc;
  std::int64_t token_blocks;
  std::int32_t segment_count;  // at most kMaxSegments
  std::int32_t blocks;         // of 8, of the R + 2 N outputs
  std::int32_t tokens;
  std::int32_t dt_rank;       // R
  std::int32_t state_size;    // N
  std::int32_t padded_state;  // N as the scan pads it
  float eps;                  // of the norms; negative: none
  bool scan16;

  // Of a token's sums in shared memory, so that neighbours' lie in different banks.
  static __host__ __device__ constexpr std::int64_t RowStride(std::int64_t blocks) {
    return RoundUp(blocks * 8, 32) + 8;
  }
};

// 1 / rms of a part of a row, by a warp; the sum by TreeSum's tree of 32 interleaved partial sums.
__device__ __forceinline__ float WarpRmsScale(const float* row, int width, float eps) {
  float sum = 0.0f;
#pragma unroll 8
  for (int i = threadIdx.x % 32; i < width; i += 32) sum = __fadd_rn(sum, __fmul_rn(row[i], row[i]));
#pragma unroll
  for (int half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, half));
  return RmsScale(sum, width, eps);
}

// In place, one part of the row in shared memory, by a warp.
__device__ __forceinline__ void NormPart(float* part, int width, float eps) {
  const float scale = WarpRmsScale(part, width, eps);
  for (int i = threadIdx.x % 32; i < width; i += 32) part[i] = __fmul_rn(part[i], scale);
  __syncwarp();
}

// B and C of one token of a step; zeros for rows of the step that no token has.
__device__ __forceinline__ void StoreScan16Token(const DtBcPrompt& args, const TokenPlace& place,
                                                 std::int32_t token, const float* b, const float* c) {
  // Where place.bc_row would be if its chunk's rows began at the chunk's place in a step.
  const std::int32_t at = place.bc_row + (token - place.position) % kBcAlign;
  const int lane = threadIdx.x % 32, n = lane % 16;
  const auto step = [&](int r) {
    return args.bc + static_cast<std::int64_t>(r / Scan16::kStep) * (2 * Scan16::kBcFloats);
  };
  const auto b_at = [&](int r) -> float& { return step(r)[Scan16::BIndex(r % Scan16::kStep, n)]; };
  if (lane < 16) {
    b_at(at) = RoundForTf32(b[n]);
    if (place.position == 0) {
      for (int other = at / Scan16::kStep * Scan16::kStep; other < at; ++other) b_at(other) = 0.0f;
    }
    if (token + 1 == args.tokens || args.places[token + 1].bc_row != place.bc_row + 1) {
      for (int other = at + 1; other % Scan16::kStep != 0; ++other) b_at(other) = 0.0f;
    }
  } else {
    step(at)[Scan16::kBcFloats + Scan16::CIndex(at % Scan16::kStep, n)] = RoundForTf32(c[n]);
  }
}

// B and C of a step whose tokens are all of one chunk, 16 bytes a thread of 128: of parts of a sector, which
// StoreScan16Token stores, the L2 takes a tenth as many.
__device__ __forceinline__ void StoreScan16Step(const DtBcPrompt& args, const TokenPlace& first,
                                                std::int32_t token, const float* sums, int stride) {
  const std::int32_t row = first.bc_row + (token - first.position) % kBcAlign;
  float4* const out = reinterpret_cast<float4*>(args.bc + static_cast<std::int64_t>(row) *
                                                              (2 * Scan16::kBcFloats / Scan16::kStep));
  const int i = threadIdx.x % 64;
  const float* const b = sums + args.dt_rank;
  float v[4];
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    if (threadIdx.x < 64) {  // BIndex(token, n) = (4 n + token % 8 / 2) 4 + token / 8 2 + token % 2
      v[part] = b[(i % 4 * 2 + part / 2 * 8 + part % 2) * stride + i / 4];
    } else {  // CIndex(token, n) = (n / 8 32 + token % 8 4 + n % 8 / 2) 4 + token / 8 2 + n % 2
      v[part] = b[(i % 32 / 4 + part / 2 * 8) * stride + args.state_size + i / 32 * 8 + i % 4 * 2 + part % 2];
    }
  }
  out[threadIdx.x] = {RoundForTf32(v[0]), RoundForTf32(v[1]), RoundForTf32(v[2]), RoundForTf32(v[3])};
}

// Grid: steps of tokens; a warp takes a token. Shared: a row of RowStride floats for each.
static __global__ void __launch_bounds__(DtBcPrompt::kThreads) DtBcPromptKernel(const DtBcPrompt args) {
  extern __shared__ __align__(16) float sums[];
  constexpr int kTokens = DtBcPrompt::kTokens, kThreads = DtBcPrompt::kThreads;
  WaitForPreviousKernel();
  AllowNextKernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int stride = static_cast<int>(DtBcPrompt::RowStride(args.blocks));
  const std::int32_t first = blockIdx.x * kTokens, token = first + warp;
  float* row = sums + warp * stride;
  const auto place_of = [&](std::int32_t t) {
    return t < args.tokens ? args.places[t] : TokenPlace{kNoSlot, 0, 0, 0};
  };
  const TokenPlace place = place_of(token), first_place = place_of(first),
                   last_place = place_of(first + kTokens - 1);
  const bool live = place.slot != kNoSlot;
  // Rows of two chunks never follow each other.
  const bool whole_step = args.scan16 && first_place.slot != kNoSlot && last_place.slot != kNoSlot &&
                          last_place.bc_row == first_place.bc_row + kTokens - 1;

  const int quads = args.blocks * 16 * (kTokens / 8);  // of the block's tokens in a segment
  const float4* in =
      reinterpret_cast<const float4*>(args.segments) + static_cast<std::int64_t>(blockIdx.x) * quads;
  for (int i = threadIdx.x; i < quads; i += kThreads) {
    const int in_block = i / (args.blocks * 16) * 8 + i / 2 % 8;
    const bool exists = first + in_block < args.tokens;
    float4 part[DtBcPrompt::kMaxSegments];  // all under way at once
#pragma unroll
    for (int s = 0; s < DtBcPrompt::kMaxSegments; ++s) {
      part[s] =
          exists && s < args.segment_count ? in[s * (args.token_blocks * args.blocks * 16) + i] : float4{};
    }
    float4 sum = part[0];
#pragma unroll
    for (int s = 1; s < DtBcPrompt::kMaxSegments; ++s) {
      if (s < args.segment_count) {
        sum = {__fadd_rn(sum.x, part[s].x), __fadd_rn(sum.y, part[s].y), __fadd_rn(sum.z, part[s].z),
               __fadd_rn(sum.w, part[s].w)};
      }
    }
    *reinterpret_cast<float4*>(sums + in_block * stride + i % (args.blocks * 16) / 16 * 8 + i % 2 * 4) = sum;
  }
  __syncthreads();
  if (!live) {  // its sums are anything
    for (int i = lane; i < args.dt_rank; i += 32) row[i] = 0.0f;
  }
  float* b = row + args.dt_rank;
  float* c = b + args.state_size;
  if (args.eps >= 0.0f) {
    NormPart(row, args.dt_rank, args.eps);
    NormPart(b, args.state_size, args.eps);
    NormPart(c, args.state_size, args.eps);
  }
  if (live && args.scan16 && !whole_step) {
    StoreScan16Token(args, place, token, b, c);
  } else if (live && !args.scan16) {
    const int in_group = place.bc_row % 4;
    float* out = args.bc + static_cast<std::int64_t>(place.bc_row / 4) * 8 * args.padded_state;
    float* out_c = out + 4 * args.padded_state;
    for (int n = lane; n < args.padded_state; n += 32) {
      const bool exists = n < args.state_size;
      out[n * 4 + in_group] = exists ? b[n] : 0.0f;
      out_c[n * 4 + in_group] = exists ? c[n] : 0.0f;
    }
  }
  __syncthreads();
  if (whole_step && threadIdx.x < 128) StoreScan16Step(args, first_place, first, sums, stride);
  const int blocks = static_cast<int>(Slabs(args.dt_rank) * 8);
  for (int i = threadIdx.x; i < blocks * kTokens;
       i += kThreads) {  // (slab, token block, channel block, token)
    const int in_slab = i % (8 * kTokens), token_block = in_slab / 64;
    const float* from = sums + (token_block * 8 + i % 8) * stride;
    Bf16x8 out;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const int r = i / (8 * kTokens) * 64 + in_slab % 64 / 8 * 8 + 2 * p;
      out.pair[p] =
          __floats2bfloat162_rn(r < args.dt_rank ? from[r] : 0.0f, r + 1 < args.dt_rank ? from[r + 1] : 0.0f);
    }
    reinterpret_cast<Bf16x8*>(
        args.dt)[(i / (8 * kTokens) * args.token_blocks + blockIdx.x * (kTokens / 8)) * 64 + in_slab] = out;
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_DT_BC_PROMPT_CUH_

// y = x W^T for up to 8 rows of x: bound by reading W. A warp owns 16 rows of W and one segment of K and
// streams them through its own ring in shared memory; the first ring-full is under way before the previous
// kernel has ended. The warps of a block hold all segments of their rows, whose sums it adds in ascending
// order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/x_proj_fold.cuh"

namespace mambad::kernels {

struct NarrowShape {
  static constexpr int kMaxWarps = 8;
  static constexpr int kRows = 16;                                    // of W, a warp
  static constexpr int kStageBytes = kRows / kCore * kRowBlockBytes;  // one chunk of k
  static constexpr int kMostStages = 6;   // what is under way hides the phases that read few weights
  static constexpr int kLeastStages = 5;  // where x leaves no room for more
  // Where a warp has no more chunks than these, its weights wait in registers: to bring them there from
  // shared memory after the wait takes a block as long as to multiply them.
  static constexpr int kHeldStages = 3;
  static constexpr int kSumStride = kRows + 4;  // floats between columns of a warp's sums
  static constexpr int kSumFloats = kCore * kSumStride;

  // Of a ring: no more than a warp has chunks.
  static constexpr MAMBAD_LANE int RingBytes(int segment_chunks, int stages) {
    return (segment_chunks < stages ? segment_chunks : stages) * kStageBytes;
  }
  // Shared memory: x, a ring for each warp, each warp's sums.
  static constexpr int SharedBytes(int k_pad, int height, int warps, int segment_chunks, int stages) {
    return k_pad * height * 2 + warps * (RingBytes(segment_chunks, stages) + kSumFloats * 4);
  }
};

// A lane's operands of one chunk of k: 16 rows of W by up to 8 rows of x.
template <int kHeight>
struct ChunkOperands {
  static constexpr int kBytesOfX = kChunkK * kHeight * 2;
  std::uint32_t a[4][4], b[2][4];

  __device__ __forceinline__ void LoadA(std::uint32_t a_lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::LoadMatrices(a_lane + i * 256, a[i]);
  }
  __device__ __forceinline__ void LoadB(std::uint32_t b_lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) hopper::LoadMatrices(b_lane + i * (kBytesOfX / 2), b[i]);
  }
  __device__ __forceinline__ void Multiply(float (&sum)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::Mma(sum, a[i], b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]);
  }
};

// A block takes args.tiles * 16 rows of W with args.segments * args.tiles warps; where results are scaled,
// one more warp finds the scales. args.rehearses: all that follows the wait runs once before it, without its
// loads and stores of global memory, which brings the instructions close.
template <int kHeight, int kStages, class Output>
__global__ void __launch_bounds__(NarrowShape::kMaxWarps * 32 + (Output::kScaled ? 32 : 0), 2)
    NarrowProduct(const ProductArgs args, const Output output) {
#if __CUDA_ARCH__ >= 900
  using Shape = NarrowShape;
  using Chunk = ChunkOperands<kHeight>;
  constexpr bool kHolds = kStages == Shape::kHeldStages;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ float row_scale[kCore];  // of at least the four rows that RowScale finds at a time
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int warps = args.segments * args.tiles;  // that multiply
  const int tile = warp / args.segments;
  const int chunk0 = warp % args.segments * args.segment_chunks;
  const int steps = warp < warps ? min(args.segment_chunks, args.chunks - chunk0) : 0;
  unsigned char* const x_shared = shared;
  unsigned char* const rings = shared + args.k_pad * kHeight * 2;
  unsigned char* const ring = rings + warp * Shape::RingBytes(args.segment_chunks, kStages);
  float* const sums =
      reinterpret_cast<float*>(rings + warps * Shape::RingBytes(args.segment_chunks, kStages));

  // Chunk `step` of this warp's weights, or nothing past the last: one group of copies either way.
  const int row0 = (blockIdx.x * args.tiles + tile) * Shape::kRows;
  const std::uint16_t* const weights =
      args.weights + WeightIndex(row0, chunk0 * kChunkK, args.k_pad) + lane * 8;
  const auto fetch = [&](int step, int stage) {
    if (step < steps) {
#pragma unroll
      for (int i = 0; i < Shape::kStageBytes / 512; ++i) {
        hopper::AsyncCopy16(ring + stage * Shape::kStageBytes + i * 512 + lane * 16,
                            weights + static_cast<std::int64_t>(step) * kTileRows * kChunkK + i * 256);
      }
    }
    hopper::AsyncCopyCommit();
  };
  AllowNextKernel();
#pragma unroll
  for (int i = 0; i < kStages; ++i) fetch(i, i);

  // The quad that this thread completes in the end: 16 rows of W by 8 columns a warp.
  const int quads = kHeight * args.tiles * (Shape::kRows / kQuad);
  const int column = threadIdx.x / 4 % kHeight;
  const int quad_tile = threadIdx.x / 4 / kHeight;
  const int m = (blockIdx.x * args.tiles + quad_tile) * Shape::kRows + threadIdx.x % 4 * kQuad;
  const bool owner = threadIdx.x < quads;
  const bool inside = owner && m < args.rows && column < args.columns;
  typename Output::Constants constants = {};
  typename Output::Operands operands;
  if (inside) {
    output.LoadSlot(m, column, operands);
    output.LoadConstants(m, constants);
  }
  const std::uint32_t a_lane =
      SharedAddress(ring) + lane / 8 % 2 * kRowBlockBytes + lane / 16 * 128 + lane % 8 * 16;
  const std::uint32_t b_lane = SharedAddress(x_shared) +
                               (chunk0 * (kChunkK / kCore) + lane / 8) * kHeight * 16 +
                               lane % 8 % kHeight * 16;
  // sums[tile][segment][column][row]
  float* const own_sums = sums + warp * Shape::kSumFloats + lane % 4 * 2 * Shape::kSumStride + lane / 4;

  // The block's segment of a folded x_proj, of which this warp takes 16 rows.
  const int segment = blockIdx.x;
  bool multiplies_x = false;
  FoldedXProj::Weights fold_weights;
  __shared__ uint2 x_quads[Output::kFolds ? kFoldTiles * kHeight * (NarrowShape::kRows / kQuad) : 1];
  if constexpr (Output::kFolds) {
    multiplies_x = segment < output.folded.sums.segments && warp * 16 < output.folded.sums.width;
    if (multiplies_x) output.folded.Load(segment, warp * 16, fold_weights);
  }

  Chunk held[kHolds ? kStages : 1];
  if constexpr (kHolds) {
    hopper::AsyncCopyWaitAll();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      if (i < steps) held[i].LoadA(a_lane + i * Shape::kStageBytes);
    }
  }

#pragma unroll 1
  for (int pass = args.rehearses ? 0 : 1; pass < 2; ++pass) {
    const bool real = pass == 1;
    if (real) WaitForPreviousKernel();

    if (warp < warps) {
      for (int i = hopper::Opaque(threadIdx.x); real && i < args.k_pad * kHeight / 8; i += warps * 32)
        hopper::AsyncCopy16(x_shared + i * 16, args.x + i * 8);
      if (inside && real) output.LoadFresh(m, column, operands);
      if (real) hopper::AsyncCopyWaitAll();
      hopper::NamedBarrier(1, warps * 32);
    } else {
#pragma unroll
      for (int row4 = 0; row4 < kHeight; row4 += 4) {
        const int row = row4 + lane / 8;
        const float scale = RowScale(output.norm, row, real ? args.columns : 0);
        if (lane % 8 == 0) row_scale[row] = scale;
      }
    }

    float sum[4] = {};
    if constexpr (kHolds) {
#pragma unroll
      for (int i = 0; i < kStages; ++i) {
        if (i >= steps) break;
        held[i].LoadB(b_lane + i * Chunk::kBytesOfX);
        held[i].Multiply(sum);
      }
    } else {
      int stage = 0;
#pragma unroll 1
      for (int step = 0; step < (real ? steps : min(steps, 1)); ++step) {
        hopper::AsyncCopyWait<kStages - 1>();  // chunk `step` has arrived
        __syncwarp();
        Chunk chunk;
        chunk.LoadA(a_lane + stage * Shape::kStageBytes);
        chunk.LoadB(b_lane + step * Chunk::kBytesOfX);
        __syncwarp();
        if (real) fetch(step + kStages, stage);
        chunk.Multiply(sum);
        if (++stage == kStages) stage = 0;
      }
    }

    if (warp < warps) {
      own_sums[0] = sum[0];
      own_sums[Shape::kSumStride] = sum[1];
      own_sums[8] = sum[2];
      own_sums[Shape::kSumStride + 8] = sum[3];
    }
    __syncthreads();
    float4 total = {};
    if (owner) {
      const float* from = sums + quad_tile * args.segments * Shape::kSumFloats + column * Shape::kSumStride +
                          threadIdx.x % 4 * kQuad;
      total = Load4(from);
#pragma unroll
      for (int s = 1; s < kMaxSegments; ++s) {
        if (s < args.segments) total = AddEach(total, Load4(from + s * Shape::kSumFloats));
      }
    }
    // Volatile: or the compiler reads in the rehearsal too, which racecheck takes for a race with the run's
    // write behind the barrier.
    const volatile float* const scales = row_scale;
    const float scale = Output::kScaled && real ? scales[column] : 1.0f;
    const int m_now = hopper::Opaque(m), column_now = hopper::Opaque(column);
    if constexpr (Output::kFolds) {
      if (warp * 32 < quads)
        output.Apply(m_now, column_now, inside, real, total, scale, constants, operands,
                     x_quads + threadIdx.x);
      if (segment < output.folded.sums.segments) {
        __syncthreads();
        if (multiplies_x)
          output.folded.template Multiply<kHeight>(hopper::Opaque(segment), warp * 16, fold_weights, x_quads,
                                                   real);
      }
    } else if (warp * 32 < quads) {
      output.Apply(m_now, column_now, inside, real, total, scale, constants, operands);
    }
    if (!real) __syncthreads();  // the rehearsal has read what the run writes
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_

// What the parts of row_stack.cuh share.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_PART_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_PART_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/mamba_layer/handover.cuh"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/stack_args.cuh"
#include "kernels/mamba_layer/stack_step.cuh"
#include "kernels/mamba_layer/x_proj_fold.cuh"

namespace mambad::kernels {

struct RowStackShape {
  static constexpr int kWarps = 8;  // that multiply
  static constexpr int kThreads = (kWarps + 1) * 32;
  static constexpr int kHeldChunks = 3;  // of a segment of K, the most
  static constexpr int kTiles = 2;       // of 16 rows of W, a block
  static constexpr int kRows = kTiles * 16;
  static constexpr int kStateChannels = kWarps * 16;
  static constexpr int kMostRegisters = 128;  // beside which a block of the head finds room
  static_assert(kRows == 32 &&
                kRows == kFoldChannels);  // a lane completes a row, a block a segment of x_proj
  static_assert(kWarps == kMaxSegments && kHeldChunks * (kChunkK / 8) <= 32);

  // Shared memory: the arguments, the tiles of each warp.
  static constexpr int ArgsBytes(int layers) { return StackShape<1>::ArgsBytes(layers); }
  static constexpr int SharedBytes(int layers) {
    return ArgsBytes(layers) + kWarps * kTiles * kHeldChunks * NarrowShape::kStageBytes;
  }

  // Blocks of each part; the parts' blocks follow each other in this order.
  static __host__ __device__ int InBlocks(int channels) { return 2 * channels / kRows; }
  static __host__ __device__ int StateBlocks(int channels) { return channels / kStateChannels; }
  static __host__ __device__ int OutBlocks(int d_model) { return d_model / kRows; }
};

// 16 rows of W by a segment of K: through shared memory into registers, as mma.sync takes them.
struct HeldTile {
  static constexpr int kChunks = RowStackShape::kHeldChunks;
  static constexpr int kChunkBytes = NarrowShape::kStageBytes, kBytes = kChunks * kChunkBytes;
  std::uint32_t a[kChunks * 4][4];

  // `from`: the tile's first element; by a warp.
  static __device__ __forceinline__ void Fetch(unsigned char* place, const std::uint16_t* from, int chunks) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < kChunkBytes / 512; ++i)
        hopper::AsyncCopy16(place + chunk * kChunkBytes + i * 512 + lane * 16,
                            from + chunk * (kTileRows * kChunkK) + i * 256 + lane * 8);
    }
  }
  // When all of that has arrived.
  __device__ __forceinline__ void Take(const unsigned char* place, int chunks) {
#pragma unroll
    for (int i = 0; i < kChunks * 4; ++i) {
      if (i / 4 < chunks) Take(place, i, a[i]);
    }
  }
  // The i-th 16 of k.
  static __device__ __forceinline__ void Take(const unsigned char* place, int i, std::uint32_t (&to)[4]) {
    const int lane = threadIdx.x % 32;
    const std::uint32_t a_lane =
        SharedAddress(place) + lane / 8 % 2 * kRowBlockBytes + lane / 16 * 128 + lane % 8 * 16;
    hopper::LoadMatrices(a_lane + i / 4 * kChunkBytes + i % 4 * 256, to);
  }
  // To L2.
  static __device__ __forceinline__ void Prefetch(const std::uint16_t* from, int chunks) {
    const int chunk = threadIdx.x % 32;
    if (chunk < chunks) BulkPrefetch(from + chunk * (kTileRows * kChunkK), kChunkBytes);
  }
};

class RowStackPart : protected LayersInTurn {
 public:
  using Shape = RowStackShape;

  struct Static {
    float sums[2][Shape::kTiles][kMaxSegments][16];  // layers in turns; of each segment, else -0
    alignas(16) std::uint16_t x[Shape::kWarps][Shape::kHeldChunks * kChunkK];  // each warp's segment
    float groups[2][kMostFoldGroups][kFoldStride];
    float dt_bc[Shape::kWarps][kFoldStride];
    std::uint16_t dt[Shape::kWarps][kFoldStride];  // bf16, 0 past the rank
    float scale[2];
  };

 protected:
  // `shared` holds the arguments: each layer's would have to come to the constant cache first. `block`: of
  // those with this part.
  __device__ __forceinline__ RowStackPart(unsigned char* shared, Static& statics, int block)
      : args_(*reinterpret_cast<const StackArgs*>(shared)),
        statics_(statics),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32),
        block_(block),
        tiles_(shared + Shape::ArgsBytes(args_.layers) + warp_ * (Shape::kTiles * HeldTile::kBytes)) {}

  __device__ __forceinline__ bool Last() const { return layer_ + 1 == args_.layers; }
  __device__ __forceinline__ const StackLayer& LayerAt(int layer) const {
    return args_.layer[min(layer, args_.layers - 1)];
  }
  // Of `segment`.
  static __device__ __forceinline__ int Chunks(const ProductPlan& plan, int segment) {
    return max(min(plan.segment_chunks, plan.chunks - segment * plan.segment_chunks), 0);
  }

  // A warp's pause before it fetches, so that warps do so one after another: all at once would hold back
  // what others hand over meanwhile.
  static __device__ __forceinline__ void Pause(int cycles, int chunks) {
    if (chunks == 0) return;
    for (const long long begin = clock64(); clock64() - begin < cycles;) {
    }
  }

  // Behind this the warp's tiles are in shared memory, and the first in `held`.
  __device__ __forceinline__ void TakeTiles(HeldTile& held, int chunks) const {
    hopper::AsyncCopyWaitAll();
    __syncwarp();
    held.Take(tiles_, chunks);
  }

  // This warp's segment of a product's input, of `chunks` chunks, into shared memory.
  __device__ __forceinline__ void TakeInput(const std::uint16_t* x, int chunks) const {
    const bool wants = lane_ < chunks * (kChunkK / 8);
    uint4 v[1];
    Await(
        v, [&](int) { return x + lane_ * 8; }, [&](int) { return wants; });
    if (wants) *reinterpret_cast<uint4*>(statics_.x[warp_] + lane_ * 8) = v[0];
    __syncwarp();
  }

  // The tiles' sums of this warp's segment. A second tile comes from shared memory while the first is
  // multiplied: registers for it too would keep the head's blocks out.
  template <int kTiles>
  __device__ __forceinline__ void Multiply(const HeldTile& held, int chunks, int first_tile,
                                           int segment) const {
    float sum[kTiles][4] = {};
    const std::uint32_t b_lane = SharedAddress(statics_.x[warp_]) + lane_ / 8 * 16;
#pragma unroll
    for (int chunk = 0; chunk < Shape::kHeldChunks; ++chunk) {
      if (chunk >= chunks) break;
      std::uint32_t b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) hopper::LoadMatrices(b_lane + (chunk * 2 + i) * 64, b[i]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t low = b[i / 2][i % 2 * 2], high = b[i / 2][i % 2 * 2 + 1];
        hopper::Mma(sum[0], held.a[chunk * 4 + i], low, high);
        if constexpr (kTiles == 2) {
          std::uint32_t a[4];
          HeldTile::Take(tiles_ + HeldTile::kBytes, chunk * 4 + i, a);
          hopper::Mma(sum[1], a, low, high);
        }
      }
    }
    if (lane_ % 4 != 0) return;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float* const to = statics_.sums[layer_ % 2][first_tile + tile][segment] + lane_ / 4;
      to[0] = sum[tile][0];
      to[8] = sum[tile][2];
    }
  }

  // Of the row of W that this lane completes, in kSegments or fewer segments.
  template <int kSegments>
  __device__ __forceinline__ float SumSegments() const {
    const float* const from = statics_.sums[layer_ % 2][lane_ / 16][0] + lane_ % 16;
    float part[kSegments];
#pragma unroll
    for (int s = 0; s < kSegments; ++s) part[s] = from[s * 16];
#pragma unroll
    for (int s = 1; s < kSegments; ++s) part[0] = __fadd_rn(part[0], part[s]);
    return part[0];
  }
  __device__ __forceinline__ int OwnRow() const { return block_ * Shape::kRows + lane_; }

  // Hands over a value of each lane in bf16, two a word, which every other lane gets.
  __device__ __forceinline__ std::uint32_t HandOver(std::uint16_t* to, float value, bool writes) const {
    const std::uint32_t own = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    const std::uint32_t word = own | __shfl_down_sync(~0u, own, 1) << 16;
    if (writes && lane_ % 2 == 0) *reinterpret_cast<std::uint32_t*>(to) = word;
    return word;
  }
  __device__ __forceinline__ void Clear(std::uint16_t* word) const {
    if (lane_ % 2 == 0) *reinterpret_cast<std::uint32_t*>(word) = kAbsent;
  }

  const StackArgs& args_;
  Static& statics_;
  const int warp_, lane_, block_;
  unsigned char* const tiles_;  // of this warp, in shared memory
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_PART_CUH_

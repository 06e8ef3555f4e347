// Y(T, M) = X(T, K) W(M, K)^T for prompts: bf16 token tiles times core matrices, fp32 accumulators.
//
// Every element is a sum over k in ascending steps of 16 in one accumulator per K segment, whatever the tile:
// the bits of a token's row depend on that row and the weight alone. Segments are a constant of the weight
// (more than one only where the grid would be too small, in x_proj); the next kernel adds them in order.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_

#include <cuda_bf16.h>

#include <cstdint>

namespace mambad::kernels {

struct LinearPromptShape {
  const __nv_bfloat16* x;      // token tiles
  const __nv_bfloat16* w;      // core matrices
  std::int64_t token_blocks;   // of 8, of x
  std::int32_t token_tiles;    // of kTokenTile
  std::int32_t live_blocks;    // of token_blocks, those that have tokens
  std::int32_t slabs;          // of 64 along k
  std::int32_t row_blocks;     // of 8, of w
  std::int32_t column_tiles;   // over M
  std::int32_t segments;       // K segments
  std::int32_t segment_slabs;  // slabs of each but perhaps the last

  // Where a row block's part of a slab begins; those of one tile of 16 row blocks follow each other.
  __device__ const __nv_bfloat16* W(int row_block, int slab) const {
    return w + ((static_cast<std::int64_t>(row_block / 16) * slabs + slab) * 16 + row_block % 16) * 512;
  }

  __device__ int SegmentSlabs(int segment) const {
    const int left = slabs - segment * segment_slabs;
    return left < segment_slabs ? left : segment_slabs;
  }
};

// A lane's sums are of several tokens' rows, and of each the columns `channel` and channel + 1 of every 8x8
// accumulator block. This is what row r adds to the token of row 0, in all products.
__device__ constexpr int RowToken(int r) { return r / 2 * 64 + r % 2 * 8; }

// Blocks that an epilogue takes together: 32 columns, which lie in one slab of the token tiles, since the
// first column of a tile is a multiple of 32.
inline constexpr int kGroupBlocks = 4;

// Hands a lane's sums to the epilogue, whose At(segment, token, channel) is the lane's place, of row 0 and
// the first, even column:
//   Live(r)                  whether row r is stored
//   Whole(columns)           whether so many columns from the tile's first on exist: then none is asked for
//   Fetch<kWhole>(group, r)  what a row of a group needs from memory
//   Bias<kWhole>(group)      what all rows of a group need
//   Group<kWhole>(group)     its place: Store(r, b, live, fetched, bias, v0, v1) stores block b's sums
// The constructor, which may come before the product, asks for the first kAhead rows of groups and the first
// bias; the rest is asked for as far ahead of its use, and a bias a group ahead.
template <int kRows, int kBlocks, class Epilogue>
class SumStores {
 public:
  static_assert(kRows % 2 == 0 && kBlocks % kGroupBlocks == 0);

  __device__ __forceinline__ SumStores(const Epilogue& epilogue, int segment, std::uint32_t token,
                                       std::uint32_t channel)
      : place_(epilogue.At(segment, token, channel)), whole_(place_.Whole(kBlocks * 8)) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) live_[r] = place_.Live(r);
#pragma unroll
    for (int unit = 0; unit < kAhead && unit < kUnits; ++unit) {
      whole_ ? Fetch<true>(unit) : Fetch<false>(unit);
    }
    bias_[0] = whole_ ? place_.template Bias<true>(0) : place_.template Bias<false>(0);
  }
  // sum[r / 2][4 block + r % 2 * 2 + i] is column 8 block + i of row r.
  __device__ __forceinline__ void Store(const float (&sum)[kRows / 2][kBlocks * 4]) {
    whole_ ? Store<true>(sum) : Store<false>(sum);
  }

 private:
  static constexpr int kUnits = kRows * kBlocks / kGroupBlocks;  // rows of groups
  static constexpr int kAhead = 4;  // of 32 columns a row: 128 bytes of the residual

  template <bool kWhole>
  __device__ __forceinline__ void Fetch(int unit) {
    if (live_[unit % kRows]) {
      fetched_[unit % kAhead] = place_.template Fetch<kWhole>(unit / kRows, unit % kRows);
    }
  }
  template <bool kWhole>
  __device__ __forceinline__ void Store(const float (&sum)[kRows / 2][kBlocks * 4]) {
#pragma unroll
    for (int g = 0; g < kBlocks / kGroupBlocks; ++g) {
      if (g + 1 < kBlocks / kGroupBlocks) bias_[(g + 1) % 2] = place_.template Bias<kWhole>(g + 1);
      const auto group = place_.template Group<kWhole>(g);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int unit = g * kRows + r;
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          const float* v = sum[r / 2] + (g * kGroupBlocks + b) * 4 + r % 2 * 2;
          group.Store(r, b, live_[r], fetched_[unit % kAhead], bias_[g % 2], v[0], v[1]);
        }
        if (unit + kAhead < kUnits) Fetch<kWhole>(unit + kAhead);
      }
    }
  }

  const typename Epilogue::Place place_;
  const bool whole_;
  bool live_[kRows];
  typename Epilogue::Fetched fetched_[kAhead];
  typename Epilogue::GroupBias bias_[2];
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_

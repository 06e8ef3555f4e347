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

// What an epilogue that kAdds adds a lane's sums of a row to, by the group's blocks.
struct OldSums {
  float2 of[kGroupBlocks];
};

// What an epilogue that kScales multiplies a lane's rows by.
template <int kRows>
struct RowScales {
  float of[kRows];
};

struct Nothing {};

// Hands a lane's sums to the epilogue, whose At(segment, token, channel) is the lane's place, of row 0 and
// the first, even column:
//   Live(r)                whether row r is stored
//   Whole(columns)         whether so many columns from the tile's first on exist: then none is asked for
//   Vector<kWhole>(group)  what all rows of a group need: a part of a vector, by columns
//   Group<kWhole>(group)   its place: Store(r, live, vector, v[, old]) stores row r of it, v and old by
//   blocks
// The constructor, which may come before the product, asks for the first vector, others are asked for a group
// ahead. `source` is RowScales where the epilogue kScales. Where it kAdds,
//   Begin(), Load<kWhole>(place, group, r) for each row, End()
// of each group in turn give what is added to.
template <int kRows, int kBlocks, class Epilogue>
class SumStores {
 public:
  static_assert(kRows % 2 == 0 && kBlocks % kGroupBlocks == 0);

  __device__ __forceinline__ SumStores(const Epilogue& epilogue, int segment, std::uint32_t token,
                                       std::uint32_t channel)
      : place_(epilogue.At(segment, token, channel)), whole_(place_.Whole(kBlocks * 8)) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) live_[r] = place_.Live(r);
    vector_[0] = whole_ ? place_.template Vector<true>(0) : place_.template Vector<false>(0);
  }
  // sum[r / 2][4 block + r % 2 * 2 + i] is column 8 block + i of row r.
  template <class Source = Nothing>
  __device__ __forceinline__ void Store(const float (&sum)[kRows / 2][kBlocks * 4], Source source = {}) {
    whole_ ? StoreGroups<true>(sum, source) : StoreGroups<false>(sum, source);
  }

 private:
  template <bool kWhole, class Source>
  __device__ __forceinline__ void StoreGroups(const float (&sum)[kRows / 2][kBlocks * 4], Source& source) {
#pragma unroll
    for (int g = 0; g < kBlocks / kGroupBlocks; ++g) {
      if (g + 1 < kBlocks / kGroupBlocks) vector_[(g + 1) % 2] = place_.template Vector<kWhole>(g + 1);
      const auto group = place_.template Group<kWhole>(g);
      if constexpr (Epilogue::kAdds) source.Begin();
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float2 v[kGroupBlocks];
#pragma unroll
        for (int b = 0; b < kGroupBlocks; ++b) {
          const float* of_block = sum[r / 2] + (g * kGroupBlocks + b) * 4 + r % 2 * 2;
          v[b] = {of_block[0], of_block[1]};
          if constexpr (Epilogue::kScales)
            v[b] = {__fmul_rn(v[b].x, source.of[r]), __fmul_rn(v[b].y, source.of[r])};
        }
        if constexpr (Epilogue::kAdds) {
          const OldSums old = source.template Load<kWhole>(place_, g, r);
          group.Store(r, live_[r], vector_[g % 2], v, old);
        } else {
          group.Store(r, live_[r], vector_[g % 2], v);
        }
      }
      if constexpr (Epilogue::kAdds) source.End();
    }
  }

  const typename Epilogue::Place place_;
  const bool whole_;
  bool live_[kRows];
  typename Epilogue::GroupVector vector_[2];
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_

// Who scans what, and when, for N = 16. The channels of a chunk go by tiles of eight; a block gets its share
// of every chunk's tiles, and its warps go round them: a warp takes the next tile for a turn of some tokens
// and leaves the state in its slot for the next turn, another warp's perhaps. So five tiles keep four warps
// busy, where otherwise one of four schedulers would have twice the work of the others.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SCAN16_TURNS_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SCAN16_TURNS_CUH_

#include <cstdint>

#include "kernels/base/prompt_rows.cuh"

namespace mambad::kernels {

struct Scan16Plan {
  std::int32_t tiles;        // of all chunks
  std::int32_t chunk_tiles;  // of a chunk, padding included
  std::int32_t turn;         // tokens, a multiple of a step
};

// Eight channels of a chunk.
struct Scan16Tile {
  std::int32_t chunk;
  std::int32_t slot;
  std::int32_t state;   // the slot that has its state
  std::int32_t first;   // token of its first step
  std::int32_t lead;    // tokens of that step before the chunk
  std::int32_t length;  // of all, from `first` on
  std::int32_t channel;
};

// In shared memory, one for each block.
struct Scan16Turns {
  static constexpr int kStepTokens = 16;
  static constexpr int kMaxTiles = 32;
  static constexpr int kMaxTurns = 33;  // of a tile

  Scan16Tile tiles[kMaxTiles];
  volatile int done[kMaxTiles][2];  // turns, by warps of a tile
  int count;
  std::uint16_t order[kMaxTiles * kMaxTurns];  // turn * kMaxTiles + tile: a tile's turns in their order

  // By all threads of the block; at least a warp.
  __device__ void Fill(const Scan16Plan& plan, const std::int64_t* offsets, const std::int32_t* slot_index,
                       const std::int32_t* state_index) {
    if (threadIdx.x < kMaxTiles) {
      // Of every chunk alike, however long.
      const int index = static_cast<int>(blockIdx.x + threadIdx.x * gridDim.x);
      Scan16Tile tile{0, kNoSlot, kNoSlot, 0, 0, 0, 0};
      if (index < plan.tiles) {
        tile.chunk = index / plan.chunk_tiles;
        tile.channel = index % plan.chunk_tiles * 8;
        tile.slot = slot_index[tile.chunk];
        tile.state = state_index[tile.chunk];
        const std::int64_t begin = offsets[tile.chunk], chunk_end = offsets[tile.chunk + 1];
        tile.lead = static_cast<std::int32_t>(begin % kStepTokens);
        tile.first = static_cast<std::int32_t>(begin) - tile.lead;
        const bool none = tile.slot == kNoSlot || begin == chunk_end;
        tile.length = none ? 0 : static_cast<std::int32_t>(chunk_end) - tile.first;
      }
      tiles[threadIdx.x] = tile;
      done[threadIdx.x][0] = 0;
      done[threadIdx.x][1] = 0;
      const int most = __reduce_max_sync(~0u, tile.length);
      int filled = 0;
      for (int turn = 0; turn * plan.turn < most; ++turn) {
        const bool exists = turn * plan.turn < tile.length;
        const unsigned lanes = __ballot_sync(~0u, exists);
        if (exists) {
          order[filled + __popc(lanes & ((1u << threadIdx.x) - 1))] =
              static_cast<std::uint16_t>(turn * kMaxTiles + threadIdx.x);
        }
        filled += __popc(lanes);
      }
      if (threadIdx.x == 0) count = filled;
    }
    __syncthreads();
  }

  // By a warp: the state that `turn` begins with is in the slot.
  __device__ __forceinline__ void AwaitTurn(int tile, int warp, int turn) const {
    while (done[tile][warp] < turn) {
    }
    __threadfence_block();
  }
  __device__ __forceinline__ void EndTurn(int tile, int warp, int turn) {
    __threadfence_block();
    __syncwarp();
    if (threadIdx.x % 32 == 0) done[tile][warp] = turn + 1;
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SCAN16_TURNS_CUH_

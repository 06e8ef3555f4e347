// The weights of a whole step as a block multiplies them, every product of every layer in order, through
// rings in shared memory: one for each pair of multiplying warps, fed by a warp of its own that never waits
// for a product's input. It asks for no more at a time than memory needs to stay busy: what the block hands
// over and polls queues behind that.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WEIGHT_RINGS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WEIGHT_RINGS_CUH_

#include <cstdint>

#include "kernels/device/ring.cuh"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/stack_args.cuh"

namespace mambad::kernels {

template <int kRingStages>
struct WeightRings {
  static constexpr int kStages = kRingStages;
  static constexpr int kPairs = NarrowShape::kMaxWarps / 2;
  static constexpr int kStageBytes = 2 * NarrowShape::kStageBytes;  // a chunk for both warps
  static constexpr int kBytes = kPairs * kStages * kStageBytes;
  // Stages under way, a pair: 32 KB a multiprocessor. With 24 or 48 a step of 1.4b takes 15 or 5% longer.
  static constexpr int kWindow = 2;
  static_assert(kWindow <= kStages);

  struct Barriers {
    std::uint64_t full[kPairs][kStages], empty[kPairs][kStages];
  };

  static __device__ __forceinline__ void Init(Barriers& barriers) {  // by one thread
#pragma unroll 1
    for (int i = 0; i < kPairs * kStages; ++i) {
      InitBarrier(&barriers.full[i / kStages][i % kStages], 1);
      InitBarrier(&barriers.empty[i / kStages][i % kStages], 2);
    }
    hopper::BarrierInitFence();
  }

  // By the warp that feeds `pair`. parts: [warp][product].
  template <class Parts>
  static __device__ __forceinline__ void Feed(const StackArgs& args, const Parts& parts, int pair,
                                              Barriers& barriers, unsigned char* rings) {
    Place at;
#pragma unroll 1
    for (int layer = 0; layer < args.layers; ++layer) {
#pragma unroll 1
      for (int product = 0; product < kStackProducts; ++product) {
        const ProductPlan& plan = args.plans.of[product];
        const WarpPart& first = parts[2 * pair][product];
        const WarpPart& second = parts[2 * pair + 1][product];
        const int segment_k = plan.segment_chunks * kChunkK;
#pragma unroll 1
        for (int unit = first.first_unit; unit < plan.units; unit += gridDim.x) {
          if (pair == kPairs - 1) PrefetchOthers(args, args.layer[layer], product, plan, unit);
          const std::uint16_t* from = args.layer[layer].products[product] +
                                      WeightIndex((unit * plan.tiles + first.tile) * NarrowShape::kRows,
                                                  first.segment * segment_k, plan.k_pad);
          // Two tiles of one segment lie together, two segments of one tile do not.
          const bool apart = plan.tiles == 1;
          const std::int64_t between = apart ? WeightIndex(0, segment_k, plan.k_pad) : 0;
#pragma unroll 1
          for (int step = 0; step < first.turns; ++step, from += kTileRows * kChunkK)
            Fetch(barriers, pair, at, rings, from, between, !apart || step < second.steps);
        }
      }
    }
  }

 private:
  struct Place {
    RingPlace<kStages> next, arriving;
    int under_way = 0;
  };

  static __device__ __forceinline__ void Fetch(Barriers& barriers, int pair, Place& at, unsigned char* rings,
                                               const std::uint16_t* from, std::int64_t between, bool both) {
    std::uint64_t* const full = &barriers.full[pair][at.next.stage];
    WaitBarrier(&barriers.empty[pair][at.next.stage], at.next.parity ^ 1);
    if (at.under_way == kWindow) {
      WaitBarrier(&barriers.full[pair][at.arriving.stage], at.arriving.parity);
      at.arriving.Next();
    } else {
      ++at.under_way;
    }
    if (threadIdx.x % 32 == 0) {
      unsigned char* const to = rings + (pair * kStages + at.next.stage) * kStageBytes;
      const std::uint64_t policy = EvictFirst();
      ArriveExpectBytes(full, both ? kStageBytes : kStageBytes / 2);
      BulkCopy(to, from, between == 0 ? kStageBytes : kStageBytes / 2, full, policy);
      if (between != 0 && both) BulkCopy(to + kStageBytes / 2, from + between, kStageBytes / 2, full, policy);
    }
    at.next.Next();
  }

  // What a unit reads beside its weights, to the L2: `rows` values of each of some lines, D apart.
  static __device__ __forceinline__ void PrefetchOthers(const StackArgs& args, const StackLayer& layer,
                                                        int product, const ProductPlan& plan, int unit) {
    const int row0 = unit * plan.tiles * NarrowShape::kRows;
    const int rows =
        min(plan.tiles * NarrowShape::kRows, (product == kOutProj ? args.d_model : args.channels) - row0);
    const auto lines = [&](const void* from, int count, int bytes) {
      constexpr int kSector = 32;
      if (from == nullptr) return;
      const int sectors = rows * bytes / kSector;
#pragma unroll 1
      for (int i = threadIdx.x % 32; i < count * sectors; i += 32)
        PrefetchLine(static_cast<const char*>(from) + (i / sectors * args.channels + row0) * bytes +
                     i % sectors * kSector);
    };
    const auto slots = [&](SlotView view, std::int64_t offset, int count, int bytes) {
      view.layer_offset_bytes = offset;
#pragma unroll 1
      for (int row = 0; row < args.rows; ++row) {
        const int slot = args.slot_index[row];
        if (slot != kNoSlot) lines(view.At(slot), count, bytes);
      }
    };
    if (rows <= 0) return;  // the gate's half
    if (product == kInProj) {
      lines(layer.conv_weight, args.conv_width, sizeof(float));
      lines(layer.conv_bias, 1, sizeof(float));
      slots(args.window, layer.window_offset_bytes, args.conv_width - 1, sizeof(std::uint16_t));
    } else if (product == kOutProj) {
      lines(layer.next_norm_weight, 1, sizeof(float));
    } else if (product == kDtProj) {
      lines(layer.decay_log2, kStackStateSize, sizeof(float));
      lines(layer.skip, 1, sizeof(float));
      lines(layer.dt_bias, 1, sizeof(float));
      slots(args.state, layer.state_offset_bytes, kStackStateSize, sizeof(float));
    }
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WEIGHT_RINGS_CUH_

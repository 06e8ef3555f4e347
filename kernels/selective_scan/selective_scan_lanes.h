// The loops of selective_scan over a lane type. Work comes in tiles of (token, channel block) pairs: first
// softplus and gate of the whole tile, whose chains of dependent instructions overlap, then the recurrence.
//   prefill: a tile is up to kTilePairs tokens of one block, its state and decay in a local, dense copy
//            (rows of the state lie D floats apart and would fight for the same cache sets)
//   step:    a tile is one token of up to kTilePairs blocks, its state in place
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_

#include <algorithm>
#include <cstdint>

#include "kernels/math/channel_block.h"
#include "kernels/math/lanes.h"
#include "kernels/math/ssm.h"
#include "kernels/selective_scan/selective_scan_cpu.h"

namespace mambad::kernels {

inline constexpr int kTilePairs = 32;

// Per pair and channel: what the recurrence needs besides the state.
struct alignas(64) ScanTile {
  float delta[kTilePairs][kBlockChannels];
  float delta_x[kTilePairs][kBlockChannels];
  float gate[kTilePairs][kBlockChannels];
};

// The state (or decay) of one block: row n at data + n * stride.
struct StateRows {
  float* data;
  std::int64_t stride;
};
struct DecayRows {
  const float* data;
  std::int64_t stride;
};

template <class V, bool kFull>
MAMBAD_LANE void PreparePair(const SelectiveScanParams& params, const SelectiveScanInputs& in,
                             std::int64_t token, std::int64_t channel, ScanTile& tile, int pair) {
  using Part = BlockPart<V, kFull>;
  const Part part{static_cast<int>(std::min<std::int64_t>(kBlockChannels, params.channels - channel))};
  for (int u = 0; u < Part::kVectors; ++u) {
    const V bias = params.delta_bias != nullptr ? part.Load(params.delta_bias + channel, u) : V::Set(0.0f);
    const V raw = part.Load(in.delta_raw + token * in.delta_stride + channel, u);
    const ChannelToken<V> made =
        MakeChannelToken(raw, bias, part.Load(in.x + token * in.x_stride + channel, u));
    made.delta.Store(tile.delta[pair] + u * V::kLanes);
    made.delta_x.Store(tile.delta_x[pair] + u * V::kLanes);
    Silu(part.Load(in.z + token * in.z_stride + channel, u)).Store(tile.gate[pair] + u * V::kLanes);
  }
}

// Advances the state by one token and writes y.
template <class V, bool kFull>
MAMBAD_LANE void AdvancePair(const SelectiveScanParams& params, const SelectiveScanInputs& in, float* y,
                             std::int64_t token, std::int64_t channel, const ScanTile& tile, int pair,
                             DecayRows decay, StateRows state) {
  using Part = BlockPart<V, kFull>;
  constexpr int kVectors = Part::kVectors;
  const Part part{static_cast<int>(std::min<std::int64_t>(kBlockChannels, params.channels - channel))};
  const std::int64_t N = params.state_size;
  const float* b = in.b + token * in.bc_stride;
  const float* c = in.c + token * in.bc_stride;

  ChannelToken<V> pairs[kVectors];
  V sums[kVectors][kStateSumWays];
  for (int u = 0; u < kVectors; ++u) {
    pairs[u] = {V::Load(tile.delta[pair] + u * V::kLanes), V::Load(tile.delta_x[pair] + u * V::kLanes)};
    for (int way = 0; way < kStateSumWays; ++way) sums[u][way] = V::Set(0.0f);
  }
  const auto advance = [&](std::int64_t n, int way) __attribute__((always_inline)) {
    const V bn = V::Set(b[n]);
    const V cn = V::Set(c[n]);
    float* row = state.data + n * state.stride;
    for (int u = 0; u < kVectors; ++u) {
      const V h = StateStep(part.Load(row, u), pairs[u], part.Load(decay.data + n * decay.stride, u), bn);
      part.Store(h, row, u);
      sums[u][way] = MulAdd(cn, h, sums[u][way]);
    }
  };
  std::int64_t n = 0;
  for (; n + kStateSumWays <= N; n += kStateSumWays) {
    for (int way = 0; way < kStateSumWays; ++way) advance(n + way, way);
  }
  for (int way = 0; n + way < N; ++way) advance(n + way, way);

  for (int u = 0; u < kVectors; ++u) {
    const V skip = part.Load(params.skip + channel, u);
    const V x = part.Load(in.x + token * in.x_stride + channel, u);
    const V gate = V::Load(tile.gate[pair] + u * V::kLanes);
    part.Store(StateOutput(sums[u], skip, x) * gate, y + channel, u);
  }
}

// A tile of tokens of one block, state carried from and to `slot`.
template <class V, bool kFull>
void PrefillTile(const SelectiveScanPrefillArgs& args, std::int64_t channel, std::int64_t token, int count,
                 float* slot) {
  using Part = BlockPart<V, kFull>;
  const SelectiveScanParams& params = args.params;
  const Part part{static_cast<int>(std::min<std::int64_t>(kBlockChannels, params.channels - channel))};
  ScanTile tile;
  alignas(64) float state[kMaxStateSize][kBlockChannels];
  alignas(64) float decay[kMaxStateSize][kBlockChannels];
  for (std::int64_t n = 0; n < params.state_size; ++n) {
    for (int u = 0; u < Part::kVectors; ++u) {
      part.Load(slot + n * params.channels + channel, u).Store(state[n] + u * V::kLanes);
      part.Load(params.decay_log2 + n * params.channels + channel, u).Store(decay[n] + u * V::kLanes);
    }
  }
  for (int t = 0; t < count; ++t) PreparePair<V, kFull>(params, args.in, token + t, channel, tile, t);
  for (int t = 0; t < count; ++t) {
    AdvancePair<V, kFull>(params, args.in, args.y + (token + t) * args.y_stride, token + t, channel, tile, t,
                          {decay[0], kBlockChannels}, {state[0], kBlockChannels});
  }
  for (std::int64_t n = 0; n < params.state_size; ++n) {
    for (int u = 0; u < Part::kVectors; ++u) {
      part.Store(V::Load(state[n] + u * V::kLanes), slot + n * params.channels + channel, u);
    }
  }
}

template <class V>
void ScanPrefill(const SelectiveScanPrefillArgs& args, Range blocks) {
  for (std::int64_t chunk = 0; chunk < args.chunks; ++chunk) {
    if (args.slot_index[chunk] == kNoSlot) continue;
    float* slot = args.state.At(args.slot_index[chunk]);
    const std::int64_t end = args.offsets[chunk + 1];
    for (std::int64_t token = args.offsets[chunk]; token < end; token += kTilePairs) {
      const int count = static_cast<int>(std::min<std::int64_t>(kTilePairs, end - token));
      for (std::int64_t block = blocks.begin; block < blocks.end; ++block) {
        const std::int64_t channel = block * kBlockChannels;
        if (channel + kBlockChannels <= args.params.channels) {
          PrefillTile<V, true>(args, channel, token, count, slot);
        } else {
          PrefillTile<V, false>(args, channel, token, count, slot);
        }
      }
    }
  }
}

// One token of consecutive blocks of one row.
template <class V>
void StepTile(const SelectiveScanStepArgs& args, std::int64_t row, Range blocks, float* slot) {
  const SelectiveScanParams& params = args.params;
  const std::int64_t D = params.channels;
  float* y = args.y + row * args.y_stride;
  ScanTile tile;
  const Range full = {blocks.begin, std::min(blocks.end, D / kBlockChannels)};
  for (std::int64_t block = full.begin; block < full.end; ++block) {
    PreparePair<V, true>(params, args.in, row, block * kBlockChannels, tile,
                         static_cast<int>(block - blocks.begin));
  }
  for (std::int64_t block = full.begin; block < full.end; ++block) {
    const std::int64_t channel = block * kBlockChannels;
    AdvancePair<V, true>(params, args.in, y, row, channel, tile, static_cast<int>(block - blocks.begin),
                         {params.decay_log2 + channel, D}, {slot + channel, D});
  }
  if (full.end < blocks.end) {
    const std::int64_t channel = full.end * kBlockChannels;
    const int pair = static_cast<int>(full.end - blocks.begin);
    PreparePair<V, false>(params, args.in, row, channel, tile, pair);
    AdvancePair<V, false>(params, args.in, y, row, channel, tile, pair, {params.decay_log2 + channel, D},
                          {slot + channel, D});
  }
}

template <class V>
void ScanStep(const SelectiveScanStepArgs& args, Range items) {
  const std::int64_t row_blocks = ChannelBlocks(args.params.channels);
  for (std::int64_t item = items.begin; item < items.end;) {
    const std::int64_t row = item / row_blocks;
    const std::int64_t stop = std::min({items.end, (row + 1) * row_blocks, item + kTilePairs});
    if (args.slot_index[row] != kNoSlot) {
      StepTile<V>(args, row, {item - row * row_blocks, stop - row * row_blocks},
                  args.state.At(args.slot_index[row]));
    }
    item = stop;
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_

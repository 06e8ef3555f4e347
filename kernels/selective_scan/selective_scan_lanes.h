// The loops of selective_scan over a lane type of kBlockChannels lanes. Work comes in tiles of (token,
// channel block) pairs: first softplus and gate of the whole tile, whose chains of dependent instructions
// overlap, then the recurrence.
//   prefill: a tile is up to kTileTokens tokens of one block
//   step:    a tile is one row's token in the kStepBlocks blocks of a group; groups are the outer loop, rows
//   the inner
// The decay of a block, and in prefill its state, are staged in a dense local copy: their rows lie D floats
// apart, and for common D all of them fall into a few cache sets. A step touches each line of the state once,
// in place; a narrow state is staged in fp32, and rounded on its way back.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_

#include <algorithm>
#include <cstdint>

#include "kernels/math/channel_block.h"
#include "kernels/math/lanes.h"
#include "kernels/math/narrow_block.h"
#include "kernels/math/ssm.h"
#include "kernels/selective_scan/selective_scan_cpu.h"

namespace mambad::kernels {

inline constexpr int kTileTokens = 32;

// Per pair and channel: what the recurrence needs besides the state.
struct alignas(64) PreparedPair {
  float delta[kBlockChannels];
  float delta_x[kBlockChannels];
  float gate[kBlockChannels];
};

// A block's (N, kBlockChannels) of state or decay; channels past D are 0.
struct alignas(64) BlockRows {
  float row[kMaxStateSize][kBlockChannels];
};

template <class V, bool kFull>
MAMBAD_LANE void StageIn(const float* matrix, std::int64_t channel, const SelectiveScanParams& params,
                         BlockRows& rows) {
  const auto part = ChannelLanes<V, kFull>::At(channel, params.channels);
  for (std::int64_t n = 0; n < params.state_size; ++n) {
    part.Load(matrix + n * params.channels + channel).Store(rows.row[n]);
  }
}

template <class V, bool kFull>
MAMBAD_LANE void StageOut(const BlockRows& rows, std::int64_t channel, const SelectiveScanParams& params,
                          float* matrix) {
  const auto part = ChannelLanes<V, kFull>::At(channel, params.channels);
  for (std::int64_t n = 0; n < params.state_size; ++n) {
    part.Store(V::Load(rows.row[n]), matrix + n * params.channels + channel);
  }
}

// Where Advance finds h[n]: staged, or in the slot.
template <class V>
struct StagedState {
  BlockRows& rows;

  MAMBAD_LANE V Load(std::int64_t n) const { return V::Load(rows.row[n]); }
  MAMBAD_LANE void Store(V h, std::int64_t n) const { h.Store(rows.row[n]); }
};

template <class V, bool kFull>
struct SlotState {
  ChannelLanes<V, kFull> part;
  float* block;
  std::int64_t stride;

  MAMBAD_LANE V Load(std::int64_t n) const { return part.Load(block + n * stride); }
  MAMBAD_LANE void Store(V h, std::int64_t n) const { part.Store(h, block + n * stride); }
};

template <class V, bool kFull>
MAMBAD_LANE void Prepare(const SelectiveScanParams& params, const SelectiveScanInputs& in, std::int64_t token,
                         std::int64_t channel, PreparedPair& pair) {
  const auto part = ChannelLanes<V, kFull>::At(channel, params.channels);
  const V bias = params.delta_bias != nullptr ? part.Load(params.delta_bias + channel) : V::Set(0.0f);
  const V delta = Delta(part.Load(in.delta_raw + token * in.delta_stride + channel), bias);
  delta.Store(pair.delta);
  (delta * part.Load(in.x + token * in.x_stride + channel)).Store(pair.delta_x);
  Silu(part.Load(in.z + token * in.z_stride + channel)).Store(pair.gate);
}

// Advances the state by one token and writes y (at channel 0 of its row).
template <class V, bool kFull, class State>
MAMBAD_LANE void Advance(const SelectiveScanParams& params, const SelectiveScanInputs& in, std::int64_t token,
                         std::int64_t channel, const PreparedPair& pair, const BlockRows& decay, State state,
                         float* y) {
  const auto part = ChannelLanes<V, kFull>::At(channel, params.channels);
  const std::int64_t N = params.state_size;
  const float* b = in.b + token * in.bc_stride;
  const float* c = in.c + token * in.bc_stride;
  const V delta = V::Load(pair.delta);
  const V delta_x = V::Load(pair.delta_x);
  // h(n) <- step, and sum + C[n] * h(n).
  const auto advance = [&](std::int64_t n, V sum) __attribute__((always_inline)) {
    const V h = StateStep(state.Load(n), delta, delta_x, V::Load(decay.row[n]), V::Set(b[n]));
    state.Store(h, n);
    return MulAdd(V::Set(c[n]), h, sum);
  };
  // Named variables, not an array: they stay in registers.
  V sum0 = V::Set(0.0f), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  std::int64_t n = 0;
  for (; n + kStateSumWays <= N; n += kStateSumWays) {
    sum0 = advance(n, sum0);
    sum1 = advance(n + 1, sum1);
    sum2 = advance(n + 2, sum2);
    sum3 = advance(n + 3, sum3);
  }
  if (n < N) sum0 = advance(n, sum0);
  if (n + 1 < N) sum1 = advance(n + 1, sum1);
  if (n + 2 < N) sum2 = advance(n + 2, sum2);

  const V skip = part.Load(params.skip + channel);
  const V x = part.Load(in.x + token * in.x_stride + channel);
  part.Store(StateOutput(sum0, sum1, sum2, sum3, skip, x) * V::Load(pair.gate), y + channel);
}

// A tile of tokens of one block, state carried from and to `slot`.
template <class V, bool kFull>
void PrefillTile(const SelectiveScanPrefillArgs& args, std::int64_t channel, std::int64_t token, int count,
                 float* slot) {
  PreparedPair pairs[kTileTokens];
  BlockRows state, decay;
  StageIn<V, kFull>(args.params.decay_log2, channel, args.params, decay);
  StageIn<V, kFull>(slot, channel, args.params, state);
  for (int t = 0; t < count; ++t) Prepare<V, kFull>(args.params, args.in, token + t, channel, pairs[t]);
  for (int t = 0; t < count; ++t) {
    Advance<V, kFull>(args.params, args.in, token + t, channel, pairs[t], decay, StagedState<V>{state},
                      args.y + (token + t) * args.y_stride);
  }
  StageOut<V, kFull>(state, channel, args.params, slot);
}

template <class V>
void ScanPrefill(const SelectiveScanPrefillArgs& args, Range blocks) {
  for (std::int64_t chunk = 0; chunk < args.chunks; ++chunk) {
    if (args.slot_index[chunk] == kNoSlot) continue;
    float* slot = args.state.At(args.slot_index[chunk]);
    const std::int64_t end = args.offsets[chunk + 1];
    for (std::int64_t token = args.offsets[chunk]; token < end; token += kTileTokens) {
      const int count = static_cast<int>(std::min<std::int64_t>(kTileTokens, end - token));
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

template <class V, bool kFull, bool kNarrow>
MAMBAD_LANE void StepBlock(const SelectiveScanStepArgs& args, std::int64_t row, std::int64_t channel,
                           const PreparedPair& pair, const BlockRows& decay) {
  const std::int64_t D = args.params.channels;
  const std::int32_t slot = args.slot_index[row];
  float* const y = args.y + row * args.y_stride;
  if constexpr (kNarrow) {
    const std::int64_t N = args.params.state_size;
    const RoundingKey& now = args.state.KeyAt(slot);
    BlockRows state;
    WidenBlock(args.state.Bf16At(slot), D, channel, N, state.row[0]);
    Advance<V, kFull>(args.params, args.in, row, channel, pair, decay, StagedState<V>{state}, y);
    RoundBlock(state.row[0], {now.seed, now.position + 1}, args.state.layer, D, channel, N,
               args.state.Bf16At(slot));
  } else {
    Advance<V, kFull>(
        args.params, args.in, row, channel, pair, decay,
        SlotState<V, kFull>{ChannelLanes<V, kFull>::At(channel, D), args.state.At(slot) + channel, D}, y);
  }
}

// The rows [rows.begin, rows.end) of one group: `full` whole blocks from `channel` on, then perhaps a
// narrower one.
template <class V, bool kNarrow>
void StepGroup(const SelectiveScanStepArgs& args, std::int64_t channel, int full, bool partial, Range rows) {
  const SelectiveScanParams& params = args.params;
  BlockRows decay[kStepBlocks];
  PreparedPair pairs[kStepBlocks];
  const std::int64_t last = channel + full * kBlockChannels;
  for (int i = 0; i < full; ++i) {
    StageIn<V, true>(params.decay_log2, channel + i * kBlockChannels, params, decay[i]);
  }
  if (partial) StageIn<V, false>(params.decay_log2, last, params, decay[full]);
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    if (args.slot_index[row] == kNoSlot) continue;
    for (int i = 0; i < full; ++i)
      Prepare<V, true>(params, args.in, row, channel + i * kBlockChannels, pairs[i]);
    if (partial) Prepare<V, false>(params, args.in, row, last, pairs[full]);
    for (int i = 0; i < full; ++i) {
      StepBlock<V, true, kNarrow>(args, row, channel + i * kBlockChannels, pairs[i], decay[i]);
    }
    if (partial) StepBlock<V, false, kNarrow>(args, row, last, pairs[full], decay[full]);
  }
}

template <class V, bool kNarrow>
void ScanStepItems(const SelectiveScanStepArgs& args, Range items) {
  constexpr std::int64_t kGroupChannels = kStepBlocks * kBlockChannels;
  for (std::int64_t item = items.begin; item < items.end;) {
    const std::int64_t group = item / args.rows;
    const std::int64_t stop = std::min(items.end, (group + 1) * args.rows);
    const std::int64_t channel = group * kGroupChannels;
    const std::int64_t width = std::min(kGroupChannels, args.params.channels - channel);
    StepGroup<V, kNarrow>(args, channel, static_cast<int>(width / kBlockChannels),
                          width % kBlockChannels != 0, {item - group * args.rows, stop - group * args.rows});
    item = stop;
  }
}

template <class V>
void ScanStep(const SelectiveScanStepArgs& args, Range items) {
  if (args.state.dtype == DType::kBf16) {
    ScanStepItems<V, true>(args, items);
  } else {
    ScanStepItems<V, false>(args, items);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_LANES_H_

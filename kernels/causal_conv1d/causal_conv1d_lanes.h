// The loops of causal_conv1d over a lane type: a tile of tokens of a few channels at a time, their window in
// registers. The tile bounds how far apart in memory consecutive accesses lie; the window passes from tile to
// tile through the slot.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_LANES_H_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_LANES_H_

#include <algorithm>
#include <cstdint>

#include "kernels/causal_conv1d/causal_conv1d_cpu.h"
#include "kernels/math/channel_block.h"
#include "kernels/math/conv.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

// Consecutive tokens of one sequence; x, y and window point at channel 0.
struct ConvTokens {
  const float* x;
  std::int64_t x_stride;
  float* y;
  std::int64_t y_stride;
  std::int64_t count;
  float* window;  // (K-1, D)
};

// kWidth is K where it is known at compile time, else 0.
template <class V, bool kFull, int kWidth>
void ConvLanes(const CausalConv1dFilter& filter, const ConvTokens& tokens, std::int64_t channel) {
  constexpr int kCapacity = kWidth > 0 ? kWidth : kMaxConvWidth;
  const int width = kWidth > 0 ? kWidth : filter.width;
  const std::int64_t D = filter.channels;
  const auto part = ChannelLanes<V, kFull>::At(channel, D);
  V weight[kCapacity];
  V window[kCapacity];  // the last element is this token's input
  for (int k = 0; k < width; ++k) weight[k] = part.Load(filter.weight + k * D + channel);
  for (int k = 0; k < width - 1; ++k) window[k] = part.Load(tokens.window + k * D + channel);
  const V bias = filter.bias != nullptr ? part.Load(filter.bias + channel) : V::Set(0.0f);
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    V input = part.Load(tokens.x + t * tokens.x_stride + channel);
    if (filter.round_input_to_bf16) input = RoundToBf16(input);
    window[width - 1] = input;
    V accumulator = bias;
    for (int k = 0; k < width; ++k) accumulator = ConvTap(accumulator, window[k], weight[k]);
    part.Store(ConvOutput(accumulator), tokens.y + t * tokens.y_stride + channel);
    for (int k = 0; k < width - 1; ++k) window[k] = window[k + 1];
  }
  for (int k = 0; k < width - 1; ++k) part.Store(window[k], tokens.window + k * D + channel);
}

template <class V, bool kFull>
void ConvLanesOfWidth(const CausalConv1dFilter& filter, const ConvTokens& tokens, std::int64_t channel) {
  if (filter.width == 4) return ConvLanes<V, kFull, 4>(filter, tokens, channel);
  if (filter.width == 3) return ConvLanes<V, kFull, 3>(filter, tokens, channel);
  if (filter.width == 2) return ConvLanes<V, kFull, 2>(filter, tokens, channel);
  return ConvLanes<V, kFull, 0>(filter, tokens, channel);
}

template <class V>
void ConvBlocks(const CausalConv1dFilter& filter, const ConvTokens& tokens, Range blocks) {
  const std::int64_t end = std::min(blocks.end * kBlockChannels, filter.channels);
  for (std::int64_t channel = blocks.begin * kBlockChannels; channel < end; channel += V::kLanes) {
    if (channel + V::kLanes <= end) {
      ConvLanesOfWidth<V, true>(filter, tokens, channel);
    } else {
      ConvLanesOfWidth<V, false>(filter, tokens, channel);
    }
  }
}

template <class V>
void ConvPrefill(const CausalConv1dPrefillArgs& args, Range blocks) {
  constexpr std::int64_t kTileTokens = 32;
  for (std::int64_t chunk = 0; chunk < args.chunks; ++chunk) {
    const std::int32_t slot = args.slot_index[chunk];
    if (slot == kNoSlot) continue;
    const std::int64_t end = args.offsets[chunk + 1];
    for (std::int64_t t = args.offsets[chunk]; t < end; t += kTileTokens) {
      ConvBlocks<V>(args.filter,
                    {args.x + t * args.x_stride, args.x_stride, args.y + t * args.y_stride, args.y_stride,
                     std::min(kTileTokens, end - t), args.window.At(slot)},
                    blocks);
    }
  }
}

template <class V>
void ConvStep(const CausalConv1dStepArgs& args, Range items) {
  const std::int64_t row_blocks = ChannelBlocks(args.filter.channels);
  for (std::int64_t item = items.begin; item < items.end;) {
    const std::int64_t row = item / row_blocks;
    const std::int64_t stop = std::min(items.end, (row + 1) * row_blocks);
    const std::int32_t slot = args.slot_index[row];
    if (slot != kNoSlot) {
      ConvBlocks<V>(args.filter,
                    {args.x + row * args.x_stride, args.x_stride, args.y + row * args.y_stride, args.y_stride,
                     1, args.window.At(slot)},
                    {item - row * row_blocks, stop - row * row_blocks});
    }
    item = stop;
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_LANES_H_

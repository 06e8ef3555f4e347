// How a packed weight lies in memory. On the CPU: panels of kPanelChannels output channels, each contiguous
// over k. On a GPU: see gpu_layout.h.
#ifndef MAMBAD_KERNELS_LINEAR_PANEL_LAYOUT_H_
#define MAMBAD_KERNELS_LINEAR_PANEL_LAYOUT_H_

#include <cstdint>

namespace mambad::kernels {

inline constexpr std::int64_t kPanelChannels = 16;

enum class PanelLayout : std::uint8_t {
  kF32,        // [k][16] f32
  kBf16Split,  // [k][8] words: channel j in the low half, channel j + 8 in the high half
  kBf16Pair,   // [k/2][16] words: k even in the low half, k odd in the high half (0 past K)
  kGpuRows,    // on a GPU: row major f32
  kGpuCores,   // on a GPU: 8x8 core matrices of bf16
};

// Entries along k of one panel.
constexpr std::int64_t PanelSteps(PanelLayout layout, std::int64_t K) {
  return layout == PanelLayout::kBf16Pair ? (K + 1) / 2 : K;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_PANEL_LAYOUT_H_

// The register tile of the linear op, one source for all instruction sets. Each instruction set's file
// includes it once and passes an Isa:
//   Acc, Weights                 a panel's 16 accumulators; a panel's 16 weights of one step
//   X                            one entry of x
//   kStepBytes                   bytes of one panel's step
//   kMaxRows, PanelsFor(rows)    tile shapes that fit the registers and hide the latency of the FMA
//   Zero, Load, MultiplyAdd, Finish
// Everything is in the unnamed namespace: code compiled for one instruction set must not be the copy that
// the linker keeps for another.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_TILE_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_TILE_H_

#include "kernels/linear/linear_kernel.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kAheadBytes = 2048;  // per stream: covers the memory's latency at full bandwidth

constexpr std::int64_t Least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

template <class Isa, int kRows, int kPanels>
class Tile {
 public:
  // Panels first, ..., first + kPanels - 1 of the block.
  static void Run(const TileBlock& block, std::int64_t first) {
    typename Isa::Acc acc[kRows][kPanels];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) acc[r][p] = Isa::Zero();
    }
    const std::byte* weights = block.weights + first * block.panel_bytes;
    if (block.prefetch == nullptr) {
      // The lines ahead in these panels, and towards their end the first lines of the next ones.
      const std::int64_t ahead = Least(kAheadBytes / Isa::kStepBytes, block.steps);
      const std::int64_t inner = block.steps - ahead;
      Steps(block, weights, 0, inner, weights + ahead * Isa::kStepBytes, kLineBytes, acc);
      Steps(block, weights, inner, block.steps, weights + kPanels * block.panel_bytes, kLineBytes, acc);
    } else {
      Steps(block, weights, 0, block.steps, block.prefetch, block.prefetch_step, acc);
    }
    // The copy keeps `acc` in registers above: only `sums` is indexed by a variable.
    typename Isa::Acc sums[kRows][kPanels];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) sums[r][p] = acc[r][p];
    }
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) {
        const std::int64_t channel = (first + p) * kPanelChannels;
        Isa::Finish(sums[r][p], block.bias == nullptr ? nullptr : block.bias + channel, block.accumulate,
                    block.y + r * block.ldy + channel, Least(kPanelChannels, block.channels - channel));
      }
    }
  }

 private:
  using X = typename Isa::X;

  [[gnu::always_inline]] static void Steps(const TileBlock& block, const std::byte* weights,
                                           std::int64_t begin, std::int64_t end, const std::byte* prefetch,
                                           std::size_t prefetch_step,
                                           typename Isa::Acc (&acc)[kRows][kPanels]) {
    constexpr std::int64_t kUnroll = kLineBytes / Isa::kStepBytes;
    const X* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = reinterpret_cast<const X*>(block.x + r * block.x_stride);
    std::int64_t k = begin;
    for (; k + kUnroll <= end; k += kUnroll) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) __builtin_prefetch(prefetch + p * block.panel_bytes, 0, 3);
      prefetch += prefetch_step;
#pragma GCC unroll 4
      for (std::int64_t u = 0; u < kUnroll; ++u) Step(block, weights, k + u, x, acc);
    }
    for (; k < end; ++k) Step(block, weights, k, x, acc);
  }

  [[gnu::always_inline]] static void Step(const TileBlock& block, const std::byte* weights, std::int64_t k,
                                          const X* const (&x)[kRows],
                                          typename Isa::Acc (&acc)[kRows][kPanels]) {
    // Rows outside: the panels' weights stay in registers (the compiler loads each once), x comes and goes.
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
        const typename Isa::Weights w = Isa::Load(weights + p * block.panel_bytes + k * Isa::kStepBytes);
        Isa::MultiplyAdd(acc[r][p], w, x[r][k]);
      }
    }
  }
};

// All panels, kPanels at a time; what is left in narrower passes.
template <class Isa, int kRows, int kPanels = Isa::PanelsFor(kRows)>
void RunRows(const TileBlock& block, std::int64_t first = 0) {
  for (; first + kPanels <= block.panels; first += kPanels) Tile<Isa, kRows, kPanels>::Run(block, first);
  if constexpr (kPanels > 1) {
    if (first < block.panels) RunRows<Isa, kRows, kPanels / 2>(block, first);
  }
}

template <class Isa, int kRows = 1>
void RunTile(const TileBlock& block, int rows) {
  if constexpr (kRows < Isa::kMaxRows) {
    if (rows != kRows) return RunTile<Isa, kRows + 1>(block, rows);
  }
  RunRows<Isa, kRows>(block);
}

}  // namespace
}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_TILE_H_

// What one instruction set's file of the linear op offers. It includes almost nothing on purpose: those files
// are compiled for instructions that the machine may lack, so no inline function or static initializer of
// another header may come out of them.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_KERNEL_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/linear/panel_layout.h"

namespace mambad::kernels {

// One call: a tile of a few rows against consecutive panels.
struct TileBlock {
  const std::byte* weights;  // first panel
  std::size_t panel_bytes;
  std::int64_t panels;
  std::int64_t channels;  // valid outputs from the first panel on, <= panels * kPanelChannels
  std::int64_t steps;     // entries of one panel along k
  const std::byte* x;     // (rows, steps) entries as LinearKernel::x_entry_bytes says
  std::size_t x_stride;   // bytes between rows of x
  float* y;
  std::int64_t ldy;
  const float* bias;  // of the first panel, or null
  bool accumulate;
  // What to fetch while this block is computed. Null: the lines of this block a little ahead (weights are
  // cold and used once). Otherwise from here on, `prefetch_step` bytes per cache line of weights consumed.
  const std::byte* prefetch;
  std::size_t prefetch_step;
};

// The product for one precision on one instruction set.
struct LinearKernel {
  PanelLayout layout;
  int max_rows;               // rows of the largest tile
  int panels_per_pass;        // panels that a single row reads at once
  std::size_t x_entry_bytes;  // one step of x: f32, or a pair of bf16
  // Converts a row of K floats to steps entries; null: x is used as it is.
  void (*convert)(const float* x, std::int64_t K, std::byte* out);
  // 1 <= rows <= max_rows.
  void (*run)(const TileBlock& block, int rows);
};

struct LinearKernels {
  LinearKernel f32;
  LinearKernel bf16;
};

const LinearKernels& PortableLinearKernels();
const LinearKernels& Avx2LinearKernels();
const LinearKernels& Avx512LinearKernels();

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_KERNEL_H_

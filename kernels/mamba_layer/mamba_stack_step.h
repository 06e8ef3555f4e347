// One decode step of all layers of a model on a Hopper GPU, with the bits of MambaLayerStep for each. A row,
// or two, of large layers go through one kernel (stack_step.cuh), whose blocks keep their multiprocessors,
// hand each other what they find through L2 and never stop reading weights. A row of small layers goes
// through another (row_stack.cuh), made for the shortest way from part to part. All else goes layer by layer.
//
// Those kernels need all multiprocessors of the device, or as many as they have blocks, at once: where
// another process keeps some of them for good (under MPS), they end in an error after some ten seconds.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_

#include <span>

#include "kernels/mamba_layer/mamba_layer_step.h"

namespace mambad::kernels {

// `layers`, in order, differ in weights, the next norm, the layers' places in the slots, and last_hidden,
// which only the last one may name. buffers.handed is as ClearHanded or an earlier step left it. The buffers'
// residual, u and square_sums are then as MambaLayerStep leaves them, but for u and square_sums of rows
// without a slot; x, gate, dt_bc, folded and y may not have been used.
const char* MambaStackStep(void* stream, std::span<const MambaLayerStepArgs> layers);

// Null when the step above is one kernel, else why not. Both take fp32 states, N = 16 and 3 to 64 layers.
//   large layers   up to 2 rows, R + 2 N up to 288, and inputs of the products that leave room for the rings
//                  (7b: one row); x_proj's sums must not be folded into in_proj; and of two rows in_proj must
//                  occupy all blocks, or layers are faster
//   small layers   1 row, x_proj's sums folded (x_proj_fold.h), no norms on dt, B and C, R up to 64, segments
//                  of K of up to 192 (so M up to 768 and D up to 1,536), and a multiprocessor for each of
//                  D / 16 + D / 128 + M / 32 blocks (130m: 132)
const char* WhyNotMambaStack(std::span<const MambaLayerStepArgs> layers);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_

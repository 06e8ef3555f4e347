// One decode step of all layers of a model on a Hopper GPU, with the bits of MambaLayerStep for each. A row,
// or two, of large layers go through one kernel, whose blocks keep their multiprocessors, hand each other
// what they find through L2 and never stop reading weights; all else layer by layer.
//
// That kernel needs all multiprocessors of the device at once: where another process keeps some of them for
// good (under MPS), it ends in an error after some ten seconds.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_

#include <span>

#include "kernels/mamba_layer/mamba_layer_step.h"

namespace mambad::kernels {

// `layers`, in order, differ in weights, the next norm, the layers' places in the slots, and last_hidden,
// which only the last one may name. buffers.handed is as ClearHanded or an earlier step left it. The buffers'
// residual, u and square_sums are then as MambaLayerStep leaves them, but for u and square_sums of rows
// without a slot; x, gate, dt_bc and y may not have been used.
const char* MambaStackStep(void* stream, std::span<const MambaLayerStepArgs> layers);

// Null when the step above is one kernel, else why not: it takes up to 2 rows, fp32 states, N = 16, R + 2 N
// up to 288, 3 to 64 layers, and inputs of the products that leave room for its rings (7b: one row); x_proj's
// sums must not be folded into in_proj; and of two rows in_proj must occupy all blocks, or layers are faster.
const char* WhyNotMambaStack(std::span<const MambaLayerStepArgs> layers);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_STACK_STEP_H_
